"""Optimisers from a config: the student's, and that of the critics where a loss has one."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmengine.registry import OPTIMIZERS
from torch import nn
from torch.optim import Adam, Optimizer

from segkd.arguments import positive
from segkd.engine.config import first_line
from segkd.engine.precision import AutocastOptimWrapper
from segkd.errors import UserError, nearest
from segkd.registry import resolve
from segkd.segmentor import TrainingModel

#: what mmengine's DefaultOptimWrapperConstructor takes
PARAMWISE = (
    "custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "flat_decay_mult", "dwconv_decay_mult",
    "dcn_offset_lr_mult", "bypass_duplicate",
)  # fmt: skip
#: of the critic, as IFVD and CIRKD train SKD's: learning rate 4e-4, betas 0.9 and 0.99 (SKD itself: SGD at 4e-4)
CRITIC = dict(type=Adam, lr=4e-4, betas=(0.9, 0.99))
STUDENT = "student"


class Alternating(OptimWrapperDict):
    """The student's wrapper and the critic's. Both count steps, so that the remainder of accumulated ones is used."""

    def initialize_count_status(self, model: nn.Module, cur_iter: int, max_iters: int) -> None:
        """mmengine's does nothing; a resumed run would then count from 0, and no wrapper would know its last step."""
        for wrapper in self.values():
            wrapper.initialize_count_status(model, cur_iter, max_iters)


def build_optimizers(cfg: Mapping[str, Any], model: TrainingModel) -> OptimWrapper | OptimWrapperDict:
    """``optim.optimizer`` for the model; where a loss has a critic, ``{"student": ..., "critic": ...}``.

    ``optim.critic`` is the config of the critic's optimiser, by default IFVD's and CIRKD's (``CRITIC``).
    """
    optim, critics = cfg["optim"], model.critic_parameters()
    if optim.get("critic") and not critics:
        raise UserError("optim.critic is given, but no loss of this config has a critic")
    wrapper = _model_wrapper(cfg, model)
    if not critics:
        return wrapper
    own = {id(parameter) for parameter in critics}
    for group in wrapper.optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
    wrapper.optimizer.param_groups[:] = [group for group in wrapper.optimizer.param_groups if group["params"]]
    critic = build_wrapper(cfg, critics, optim.get("critic") or CRITIC, key="optim.critic")
    return Alternating(**{STUDENT: wrapper, "critic": critic})


def students(wrapper: OptimWrapper | OptimWrapperDict) -> OptimWrapper:
    """The wrapper that steps the student."""
    return wrapper[STUDENT] if isinstance(wrapper, OptimWrapperDict) else wrapper


def build_wrapper(
    cfg: Mapping[str, Any],
    parameters: Sequence[nn.Parameter] | Sequence[Mapping[str, Any]],
    optimizer: Any,
    clip: Mapping[str, Any] | None = None,
    key: str = "optim.optimizer",
) -> AutocastOptimWrapper:
    """An optimiser for some parameters alone, at the config's precision and accumulation.

    ``parameters`` may come in groups {"params": [...], "lr_mult": ..., "decay_mult": ...}, the factors of the
    optimiser's learning rate and weight decay. ``key`` is the optimiser's place in the config, for messages.
    """
    kind = optimizer_class(optimizer, key)
    arguments = {key: value for key, value in optimizer.items() if key != "type"}
    given = inspect.signature(kind).parameters
    groups = [dict(group) for group in parameters if isinstance(group, Mapping)]
    for group in groups:
        for factor, name in (("lr_mult", "lr"), ("decay_mult", "weight_decay")):
            times = group.pop(factor, 1)
            if times != 1 and name in given:
                group[name] = times * arguments.get(name, given[name].default)
    try:
        built = kind(groups or parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {kind.__name__}: {first_line(error)}") from error
    counts = _accumulate(cfg)
    return AutocastOptimWrapper(precision=_precision(cfg), optimizer=built, accumulative_counts=counts, clip_grad=clip)


def clip_grad(cfg: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """``optim.clip_grad``, for the student's training and for the first stages."""
    clip = cfg["optim"].get("clip_grad") or None
    if clip is None:
        return None
    if not isinstance(clip, Mapping) or not {"max_norm"} <= set(clip) <= {"max_norm", "norm_type"}:
        raise UserError(f"optim.clip_grad must be dict(max_norm=...), got {clip!r}")
    positive(clip["max_norm"], "clip_grad.max_norm", "optim")
    if clip.get("norm_type") != math.inf:
        positive(clip.get("norm_type", 2.0), "clip_grad.norm_type", "optim")
    return clip


def optimizer_class(optimizer: Any, key: str = "optim.optimizer") -> Callable[..., Any]:
    """Of a class, its dotted path, or one of mmengine's names (torch's optimisers)."""
    kind = optimizer.get("type") if isinstance(optimizer, Mapping) else None
    if kind is None:
        raise UserError(f"{key} must be dict(type=..., lr=...), got {optimizer!r}")
    if isinstance(kind, str) and "." not in kind:
        found = OPTIMIZERS.get(kind)
        if found is None:
            raise UserError(f"{key}: unknown optimiser {kind!r}; {nearest(kind, OPTIMIZERS.module_dict)}")
        kind = found
    cls: Any = resolve(kind, "optimiser")
    if not (inspect.isclass(cls) and issubclass(cls, Optimizer)):
        raise UserError(f"{key}: {getattr(cls, '__name__', cls)} is no optimiser of torch's kind")
    closure = inspect.signature(cls.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(f"{key}: {cls.__name__} computes the loss several times a step, which is not done here")
    made: Callable[..., Any] = cls
    return made


def _model_wrapper(cfg: Mapping[str, Any], model: TrainingModel) -> OptimWrapper:
    optim = cfg["optim"]
    kind = optimizer_class(optim["optimizer"])
    default_decay = inspect.signature(kind).parameters.get("weight_decay")  # mmengine's factors want it spelt out
    decay = {} if default_decay is None else {"weight_decay": default_decay.default}
    wrapper = dict(
        type=AutocastOptimWrapper,
        precision=_precision(cfg),
        optimizer={**decay, **optim["optimizer"]},
        accumulative_counts=_accumulate(cfg),
        clip_grad=clip_grad(cfg),
        paramwise_cfg=_paramwise(optim.get("paramwise"), model.parameter_options()),
    )
    try:
        with _quiet():
            built: OptimWrapper = build_optim_wrapper(model, wrapper)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"optim does not fit: {first_line(error)}") from error
    return built


def _precision(cfg: Mapping[str, Any]) -> str:
    return str(cfg.get("engine", {}).get("precision", "fp32"))


def _accumulate(cfg: Mapping[str, Any]) -> int:
    return int(cfg["optim"].get("accumulate", 1))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back mmengine's remarks on every group of parameters."""
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(level)


def _paramwise(given: Any, own: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config's factors by parameter name, over those that the model's parts ask for."""
    keys = given.get("custom_keys", {}) if isinstance(given, Mapping) else {}
    if not isinstance(given, Mapping | None) or not isinstance(keys, Mapping):
        raise UserError(f"optim.paramwise must be dict(custom_keys={{name: dict(lr_mult=...)}}), got {given!r}")
    for key in sorted(set(given or {}) - set(PARAMWISE)):
        raise UserError(f"optim.paramwise.{key} means nothing; {nearest(key, PARAMWISE)}")
    for name, factors in keys.items():
        if not isinstance(factors, Mapping) or not set(factors) <= {"lr_mult", "decay_mult"}:
            raise UserError(f"optim.paramwise.custom_keys {name!r} must be dict(lr_mult=..., decay_mult=...)")
    if not own:
        return dict(given) if given else None
    return {**(given or {}), "custom_keys": {**own, **(given or {}).get("custom_keys", {})}}
