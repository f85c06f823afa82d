"""Numbers and layouts that make a step faster: autocast in bf16 or fp16, with loss scaling, and channels_last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.config import Config

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def training_device(name: str = "auto") -> torch.device:
    """A device by its name; "auto" is the GPU where there is one (of several processes, each its own), else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif processes.is_distributed():
        raise UserError(f"engine.device={name!r}: each of several processes finds its own device; leave it out")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"engine.device {name!r} is no device; give auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"engine.device {name!r}: torch sees {torch.cuda.device_count()} GPUs here")
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else device


def has_bf16(device: torch.device) -> bool:
    """True if a device computes in bf16 itself; CPUs with AVX2 alone took 8 to 22 times as long as in fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_onednn = device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def settle_precision(cfg: Config, device: torch.device) -> Config:
    """The config with "auto" replaced by what the device is fast in; fp32 for a student that rounds."""
    fast, engine = "bf16" if has_bf16(device) else "fp32", cfg.engine
    own = fast if engine.precision == "auto" else engine.precision
    own = own if cfg.quantize is None else "fp32"
    teachers = fast if engine.teacher_precision == "auto" else engine.teacher_precision
    return replace(cfg, engine=replace(engine, precision=own, teacher_precision=teachers))


def set_teacher_precision(model: TrainingModel, name: str | None) -> None:
    """Let the teachers compute in another precision than the student; None: in the same."""
    if name is None:
        return
    if not isinstance(model, Distiller):
        raise UserError("engine.teacher_precision is given, but the config has no teacher: leave it out")
    model.teacher_dtype = PRECISIONS[name]


class Precision:
    """Autocast on any device, and the scale of the loss, without which small fp16 gradients would be 0.

    Args:
        name: "fp32" (neither), "bf16" (autocast alone), or "fp16" (both).
        device: type of the device that trains.
    """

    def __init__(self, name: str, device: str) -> None:
        self.dtype, self.device = PRECISIONS[name], device
        self.scaler = torch.amp.GradScaler(device, enabled=name == "fp16")

    def autocast(self) -> torch.autocast:
        """The context of a forward pass; the backward pass runs in the types of the forward pass."""
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to go backward from."""
        scaled: Tensor = self.scaler.scale(loss)
        return scaled

    def unscale(self, optimizer: Optimizer) -> None:
        """Bring gradients back to their own size."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """The optimiser's step, left out where a scaled gradient was too large for fp16; the scale then shrinks."""
        self.scaler.step(optimizer)

    def update(self) -> None:
        """Fit the scale to what this step has seen."""
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The scale, for a run to be resumed."""
        state: dict[str, Any] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a kept scale; one of a run in another precision is left."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(state))


def to_channels_last(model: nn.Module) -> None:
    """Put the model into channels_last, except the dilated depthwise convolutions, which stay in the plain layout.

    On CPUs, torch 2.15 (oneDNN) gives such a convolution's weight a wrong gradient in bf16 with channels_last now and
    then: not finite, or 1e36 and more, from memory that nobody wrote to. In the plain layout it is right.
    """
    model.to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and max(module.dilation) > 1:
            # clone, as .contiguous() does nothing where one input channel per group makes both layouts fit
            module.weight.data = module.weight.data.clone(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_plain_input)


def _plain_input(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0].clone(memory_format=torch.contiguous_format),)
