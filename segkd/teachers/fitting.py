"""Tensors of a file put into a network, and what is said where they do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.models import Network, Preprocess
from segkd.models.base import apply_weights
from segkd.models.statedict import named_as_in
from segkd.teachers.guess import suggestion

PREPROCESS = "preprocess."


def needed_file(name: str | None, file: Path | None, kind: str) -> Path:
    """``file``; a UserError if a teacher is named without its weights."""
    if file is None:
        raise UserError(f"teacher {kind}:{name} has no weights: name their file, {kind}:{name}@FILE")
    return file


def fit(
    network: Network, tensors: Mapping[str, Tensor], file: Path, kind: str = "", preprocess: Preprocess | None = None
) -> Network:
    """Load a file's tensors into ``network``, strictly.

    Without preprocessing in the file, that of the network stays; ``preprocess`` takes the place of either. Left out are
    tensors of stages that the network has dropped because it never runs them. ``kind`` is what a user called it, where
    that may be wrong.

    Raises:
        UserError: tensors of another network; with what they fit, where that can be found.
    """
    own = network.state_dict()
    kept = {name: value for name, value in tensors.items() if name in own or not _dropped(network, name)}
    given = {name: value for name, value in own.items() if name.startswith(PREPROCESS) and name not in kept}
    try:
        apply_weights(network, {**given, **kept}, str(file))
    except UserError as error:
        if not kind:
            raise
        raise UserError(f"{error}; {suggestion(tensors, file, but=kind)}") from error
    if preprocess is not None:
        network.preprocess = preprocess
    return network


def _dropped(network: nn.Module, name: str) -> bool:
    """True if a tensor belonged to a part of the network in whose place an identity stands."""
    module: nn.Module | None = network
    for part in name.split(".")[:-1]:
        module = dict(module.named_children()).get(part) if module is not None else None
        if isinstance(module, nn.Identity):
            return True
    return False


def outputs_of(tensors: Mapping[str, Tensor], pattern: str, file: Path, kind: str) -> int:
    """The number of classes: rows of the last weight whose name matches ``pattern``."""
    heads = [value for name, value in tensors.items() if re.fullmatch(pattern, name)]
    if not heads:
        raise UserError(f"{file} holds no network of that kind; {suggestion(tensors, file, but=kind)}")
    return int(heads[-1].shape[0])


def outputs_by_trial(build: Callable[[int], nn.Module], tensors: Mapping[str, Tensor]) -> int | None:
    """The number of classes of ``build(num_classes)`` that fits the tensors; None if no tensor tells.

    Two numbers are tried: a side that is as long as the number of classes both times tells what it is in the file.
    """
    first, second = 20, 25  # ESPNet takes multiples of 5
    network = build(first)
    ones, others = network.state_dict(), build(second).state_dict()
    for name, value in named_as_in(tensors, network).items():
        if name not in ones or value.dim() != ones[name].dim():
            continue
        pairs = zip(ones[name].shape, others[name].shape, value.shape, strict=True)
        for a, b, found in pairs:
            if (a, b) == (first, second):
                return int(found)
    return None


def probed_outputs(module: nn.Module, give: Callable[[Tensor], Tensor]) -> int:
    """The number of classes of a module: channels of the logits that it gives of one black image of 64x64."""
    mode = module.training
    module.eval()
    try:
        with torch.no_grad():
            logits = give(torch.zeros(1, 3, 64, 64))
    finally:
        module.train(mode)
    if not isinstance(logits, Tensor) or logits.dim() != 4:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"{type(module).__name__} must give logits (N, K, h, w), one channel a class; it gave {got}")
    return int(logits.shape[1])
