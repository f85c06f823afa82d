"""Teachers that are files with a program in them: TorchScript and torch.export here, ONNX beside. Logits alone."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.errors import UserError, first_line
from segkd.models import Network, Preprocess
from segkd.models.base import resize_to
from segkd.models.own import logits_of
from segkd.teachers.archives import read_archive
from segkd.teachers.sources import kind_of_program

PROBE = (64, 64)


class ProgramNetwork(Network):
    """A network whose arithmetic is a file's: it has no layers to tap, no gradient and no mode.

    Input (N, 3, H, W), logits (N, K, H, W). A file for one image size gets the image resized to that (bilinear), and
    its logits are resized back: they are those of the file only at its own size. A file for one batch size gets batches
    of that.

    Args:
        num_classes: K.
        preprocess: what turns a uint8 RGB image into the file's input.
        size: the one image size (H, W) the file takes, or None.
        batch: the one batch size it takes, or None.
        whole: the file takes integers 0..255 (uint8).
    """

    def __init__(
        self,
        num_classes: int,
        preprocess: Preprocess,
        size: tuple[int, int] | None,
        batch: int | None,
        whole: bool = False,
    ) -> None:
        super().__init__(num_classes, preprocess)
        self.size, self.batch, self.whole = size, batch, whole

    @abstractmethod
    def run(self, x: Tensor) -> Tensor:
        """The file's logits of its own input."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        inside = resize_to(x.float(), self.size or x.shape[-2:])
        if self.whole:
            inside = inside.round().clamp(0, 255).to(torch.uint8)
        logits = torch.cat([self._part(part) for part in torch.split(inside, self.batch or len(x))])
        return resize_to(logits.to(x.device), x.shape[-2:])

    def _part(self, x: Tensor) -> Tensor:
        """One batch, filled up to the file's size with its last image."""
        lacking = 0 if self.batch is None else self.batch - len(x)
        filled = torch.cat([x, x[-1:].expand(lacking, -1, -1, -1)]) if lacking else x
        return self.run(filled)[: len(x)]


class TorchProgram(ProgramNetwork):
    """A TorchScript or torch.export file."""

    program: nn.Module

    def __init__(self, program: nn.Module, name: str, *args: Any) -> None:
        super().__init__(*args)
        vars(self)["program"] = program  # not as a child: exported programs have no mode to set
        self.name = name

    def run(self, x: Tensor) -> Tensor:
        logits: Tensor = run_program(self.program, x, self.name)
        return logits

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TorchProgram:
        """Device reaches the program; its dtype stays that of the file."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.program.to(self.preprocess.mean.device)
        return self


def run_program(program: Callable[[Tensor], Any], x: Tensor, name: str) -> Any:
    """What a program gives, the logits picked out; its complaints become a UserError."""
    try:
        out = program(x)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"{name} fails on an image of {x.shape[-2]}x{x.shape[-1]}, batch {len(x)}: {first_line(error)}"
        ) from error
    return logits_of(out, name)


def load(
    name: str | None, file: Path | None, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """A TorchScript or torch.export file as a frozen network.

    Args:
        name: not used.
        file: what ``torch.jit.save`` or ``torch.export.save`` wrote; it takes float images (N, 3, H, W).
        num_classes: not used, the file tells.
        preprocess: must be given, as no such file says it; ``scale=1, mean=(0, 0, 0), std=(1, 1, 1)`` where it is
            inside.
        download: not used.
    """
    if file is None:
        raise UserError(f"a teacher's program is a file, got the name {name!r}")
    kind = kind_of_program(file)
    if kind is None:
        raise UserError(f"{file} is neither a TorchScript nor a torch.export file")
    stated = needed_preprocess(file, preprocess)
    program, batch, size = _scripted(file) if kind == "torchscript" else _exported(file)
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    probe = torch.zeros(batch or 1, 3, *(size or PROBE))
    with torch.no_grad():
        count = checked_logits(run_program(program, probe, str(file)), file)
    return TorchProgram(program, str(file), count, stated, size, batch)


def _scripted(file: Path) -> tuple[nn.Module, None, None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the format is old, and files of it are there
            program: nn.Module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
        return program.eval(), None, None
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot read {file} as TorchScript: {first_line(error)}") from error


def _exported(file: Path) -> tuple[nn.Module, int | None, tuple[int, int] | None]:
    """The program of a torch.export file, with the batch and image size that it is fixed to."""
    content = read_archive(file)
    inputs = [node for node in content.graph.nodes if node.name in content.graph_signature.user_inputs]
    value = inputs[0].meta["val"] if len(inputs) == 1 else None
    if not isinstance(value, Tensor) or value.dim() != 4 or value.shape[1] != 3 or not value.is_floating_point():
        raise UserError(f"{file} must take one float image (N, 3, H, W)")
    batch, _, height, width = (side if isinstance(side, int) else None for side in value.shape)
    program: nn.Module = content.module()
    return program, batch, fixed_size(height, width, file)


def fixed_size(height: int | None, width: int | None, file: Path) -> tuple[int, int] | None:
    """The image size (H, W) that a file is fixed to, or None; a file of one side fixed is refused."""
    if (height is None) != (width is None):
        raise UserError(
            f"{file} takes images of one fixed side (H {height or 'free'}, W {width or 'free'}); fix both or none"
        )
    return None if height is None or width is None else (height, width)


def needed_preprocess(file: Path, preprocess: Preprocess | None) -> Preprocess:
    """``preprocess``; a UserError with what to say if it was not given."""
    if preprocess is None:
        raise UserError(
            f"{file} does not say its preprocessing: give preprocess=dict(mean=..., std=..., scale=1/255, "
            "channels='RGB'), or mean=(0, 0, 0), std=(1, 1, 1), scale=1 if that is inside"
        )
    return preprocess


def checked_logits(logits: Any, file: Path) -> int:
    """The number of classes of what a file gives; a UserError if these are no logits (N, K, h, w).

    Class ids have lost what a teacher knows; probabilities would be taken for logits without a complaint.
    """
    cure = "export the network without its last step, so that the file gives logits (N, K, h, w)"
    if not isinstance(logits, Tensor) or logits.dim() != 4 or not logits.is_floating_point() or logits.shape[1] < 2:
        got = f"{tuple(logits.shape)} {logits.dtype}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{file} gives no logits but {got}, such as class ids; {cure}")
    exact = logits.double()
    if bool((exact >= 0).all()) and torch.allclose(exact.sum(1), torch.ones_like(exact[:, 0]), atol=1e-3):
        raise UserError(f"{file} gives probabilities, not logits; {cure}")
    return int(logits.shape[1])
