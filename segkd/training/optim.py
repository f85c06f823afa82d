"""Optimisers from a config: the student's, and that of the critics where a loss has one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from segkd.arguments import number, positive
from segkd.errors import UserError, first_line, nearest
from segkd.registry import resolve
from segkd.segmentor import TrainingModel
from segkd.training.config import Config
from segkd.training.precision import Precision, settle_precision, training_device

#: of the critic, as IFVD and CIRKD train SKD's: learning rate 4e-4, betas 0.9 and 0.99 (SKD itself: SGD at 4e-4)
CRITIC = dict(type=Adam, lr=4e-4, betas=(0.9, 0.99))
#: factors of learning rate and weight decay by kind of parameter, as mmengine names them
PARAMWISE = (
    "custom_keys",
    "bias_lr_mult",
    "bias_decay_mult",
    "norm_decay_mult",
    "flat_decay_mult",
    "dwconv_decay_mult",
)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)
STUDENT, CRITICS = "student", "critic"
Group = dict[str, Any]


class Minimizer:
    """An optimiser with what belongs to its step: gradient accumulation, loss scaling and clipping.

    Args:
        optimizer: of torch's kind.
        precision: scales the loss where gradients are fp16.
        accumulate: losses that make one step, whose mean is minimised.
        clip_grad: arguments of ``torch.nn.utils.clip_grad_norm_``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        precision: Precision,
        accumulate: int = 1,
        clip_grad: Mapping[str, Any] | None = None,
    ) -> None:
        self.optimizer, self.precision, self.accumulate = optimizer, precision, accumulate
        self.clip_grad = dict(clip_grad or {})
        self.done, self.last = 0, -1

    def begin(self, done: int, last: int) -> None:
        """Count from the ``done``-th loss to the ``last`` one, at which a remainder that accumulated is used."""
        self.done, self.last = done, last

    def stepped(self) -> bool:
        """True if nothing is left accumulated: the optimiser has used every loss so far."""
        return self.done % self.accumulate == 0 or self.done == self.last

    def steps_next(self) -> bool:
        """True if the next loss will make the optimiser step."""
        return (self.done + 1) % self.accumulate == 0 or self.done + 1 == self.last

    def minimize(self, loss: Tensor) -> None:
        """The backward pass of a scalar and, if it is the last that accumulates, the optimiser's step."""
        self.precision.scale(loss / self._share()).backward()  # type: ignore[no-untyped-call]
        self.done += 1
        if not self.stepped():
            return
        if self.clip_grad:
            self.precision.unscale(self.optimizer)
            parameters = [p for p in self.parameters() if p.requires_grad and p.grad is not None]
            torch.nn.utils.clip_grad_norm_(parameters, **self.clip_grad)
        self.precision.step(self.optimizer)
        self.optimizer.zero_grad()

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser changes."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _share(self) -> int:
        """How many losses this step has: fewer at the end of a training that ``accumulate`` does not divide."""
        remainder = self.last % self.accumulate
        return remainder if remainder and self.last > 0 and self.done >= self.last - remainder else self.accumulate


def build_minimizers(cfg: Config, model: TrainingModel) -> dict[str, Minimizer]:
    """``{"student": ...}`` of ``optim.optimizer``; where a loss has a critic, ``{"student": ..., "critic": ...}``.

    ``optim.critic`` is the config of the critic's optimiser, by default IFVD's and CIRKD's (``CRITIC``).
    """
    optim, critics = cfg.optim, model.critic_parameters()
    if optim.critic and not critics:
        raise UserError("optim.critic is given, but no loss of this config has a critic")
    device = training_device(cfg.engine.device)
    precision = Precision(settle_precision(cfg, device).engine.precision, device.type)
    factors = _paramwise(optim.paramwise, model.parameter_options())
    groups = parameter_groups(model, factors, apart=critics)
    found = {STUDENT: build_minimizer(cfg, groups, optim.optimizer, clip_grad(cfg), precision=precision)}
    if critics:
        own = optim.critic or CRITIC
        found[CRITICS] = build_minimizer(cfg, [{"params": critics}], own, key="optim.critic", precision=precision)
    return found


def build_minimizer(
    cfg: Config,
    groups: Sequence[Group],
    optimizer: Any,
    clip: Mapping[str, Any] | None = None,
    key: str = "optim.optimizer",
    precision: Precision | None = None,
) -> Minimizer:
    """The minimiser of groups {"params": [...], "lr_mult": ..., "decay_mult": ...}, with the config's accumulation.

    The factors are of the optimiser's learning rate and weight decay. ``key`` is the optimiser's place in the config,
    for messages.
    """
    kind = optimizer_class(optimizer, key)
    arguments = {name: value for name, value in optimizer.items() if name != "type"}
    for name, value in arguments.items():
        parts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
            raise UserError(f"{key}.{name} must be finite, got {value}")
    given = inspect.signature(kind).parameters
    groups = [dict(group) for group in groups]
    try:
        for group in groups:
            for factor, name in (("lr_mult", "lr"), ("decay_mult", "weight_decay")):
                times = group.pop(factor, 1)
                if times != 1 and name in given:
                    group[name] = times * arguments.get(name, given[name].default)
        built = kind(groups, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {kind.__name__}: {first_line(error)}") from error
    precision = precision or Precision(cfg.engine.precision, training_device(cfg.engine.device).type)
    return Minimizer(built, precision, cfg.optim.accumulate, clip)


def clip_grad(cfg: Config) -> Mapping[str, Any] | None:
    """``optim.clip_grad``, for the student's training and for the first stages."""
    clip = cfg.optim.clip_grad or None
    if clip is None:
        return None
    if not isinstance(clip, Mapping) or not {"max_norm"} <= set(clip) <= {"max_norm", "norm_type"}:
        raise UserError(f"optim.clip_grad must be dict(max_norm=...), got {clip!r}")
    positive(clip["max_norm"], "clip_grad.max_norm", "optim")
    if clip.get("norm_type") != math.inf:
        positive(clip.get("norm_type", 2.0), "clip_grad.norm_type", "optim")
    return clip


def optimizer_class(optimizer: Any, key: str = "optim.optimizer") -> Callable[..., Any]:
    """The class that an optimiser's config names: itself, its dotted path, or a name in ``torch.optim``."""
    kind = optimizer.get("type") if isinstance(optimizer, Mapping) else None
    if kind is None:
        raise UserError(f"{key} must be dict(type=..., lr=...), got {optimizer!r}")
    if isinstance(kind, str) and "." not in kind:
        known = [name for name, value in vars(torch.optim).items() if _is_optimizer(value) and value is not Optimizer]
        if kind not in known:
            raise UserError(f"{key}: unknown optimiser {kind!r}; {nearest(kind, known)}")
        kind = getattr(torch.optim, kind)
    cls: Any = resolve(kind, "optimiser")
    if not _is_optimizer(cls):
        raise UserError(f"{key}: {getattr(cls, '__name__', cls)} is no optimiser of torch's kind")
    closure = inspect.signature(cls.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(f"{key}: {cls.__name__} computes the loss several times a step, which is not done here")
    made: Callable[..., Any] = cls
    return made


def _is_optimizer(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Optimizer)


def parameter_groups(
    model: nn.Module, factors: Mapping[str, Any], apart: Iterable[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """The parameters of ``model`` in groups of equal factors {"params": [...], "lr_mult": ..., "decay_mult": ...}.

    Args:
        model: whose parameters are grouped.
        factors: ``optim.paramwise``, checked.
        apart: parameters that belong to another optimiser.
    """
    seen = {id(parameter) for parameter in apart}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                groups.setdefault(_factors(path, name, module, parameter, factors), []).append(parameter)
    return [{"params": own, "lr_mult": lr, "decay_mult": decay} for (lr, decay), own in groups.items()]


def _factors(
    path: str, name: str, module: nn.Module, parameter: nn.Parameter, factors: Mapping[str, Any]
) -> tuple[float, float]:
    """Factors of learning rate and weight decay; of several custom keys in a name, the longest holds."""
    for key in sorted(sorted(factors.get("custom_keys", {})), key=len, reverse=True):
        if key in f"{path}.{name}":
            own = factors["custom_keys"][key]
            return own.get("lr_mult", 1.0), own.get("decay_mult", 1.0)
    is_norm, is_bias = isinstance(module, NORMS), name == "bias"
    depthwise = isinstance(module, nn.Conv2d) and module.in_channels == module.groups
    kinds = {"norm": is_norm, "bias": is_bias, "dwconv": depthwise, "flat": parameter.dim() == 1}
    decays = (
        factors[f"{kind}_decay_mult"] for kind, is_it in kinds.items() if is_it and f"{kind}_decay_mult" in factors
    )
    return factors.get("bias_lr_mult", 1.0) if is_bias and not is_norm else 1.0, next(decays, 1.0)


def _paramwise(given: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """The config's factors by parameter name, over those that the model's parts ask for."""
    given = {} if given is None else given
    keys = given.get("custom_keys", {}) if isinstance(given, Mapping) else {}
    if not isinstance(given, Mapping) or not isinstance(keys, Mapping):
        raise UserError(f"optim.paramwise must be dict(custom_keys={{name: dict(lr_mult=...)}}), got {given!r}")
    for key in sorted(set(given) - set(PARAMWISE)):
        raise UserError(f"optim.paramwise.{key} means nothing; {nearest(key, PARAMWISE)}")
    for key in sorted(set(given) - {"custom_keys"}):
        number(given[key], key, "optim.paramwise", least=0)
    for name, factors in keys.items():
        if not isinstance(factors, Mapping) or not set(factors) <= {"lr_mult", "decay_mult"}:
            raise UserError(f"optim.paramwise.custom_keys {name!r} must be dict(lr_mult=..., decay_mult=...)")
        for factor, value in factors.items():
            number(value, factor, f"optim.paramwise.custom_keys {name!r}", least=0)
    return {**given, "custom_keys": {**own, **keys}}
