"""Roles of a network that nobody described: found by watching what its layers give for an image."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEEPEST = 64
RESIZES = (
    {"mode": "bilinear", "align_corners": False},
    {"mode": "bilinear", "align_corners": True},
    {"mode": "bicubic", "align_corners": False},
    {"mode": "nearest"},
)


class Map:
    """One map that flowed: the layers that gave it, from inside to outside, and what else is known of it.

    Attributes:
        makers: paths; one that works in place, or a container, gives the very tensor that a layer before it gave.
        stride: against the image, a power of two from 2 to 64; None where it is no map of a backbone.
        scores: the tensor itself, kept where it has a channel a class.
        reads_one: the innermost of its layers takes one map and nothing else.
    """

    def __init__(self, tensor: Tensor, stride: int | None, scores: Tensor | None, reads_one: bool) -> None:
        self.tensor, self.stride, self.scores, self.reads_one = weakref.ref(tensor), stride, scores, reads_one
        self.makers: list[str] = []

    def path(self, calls: Mapping[str, int]) -> str | None:
        """The outermost of its layers that ran once, the last of several."""
        once = [path for path in self.makers if calls[path] == 1]
        depth = min((path.count(".") for path in once), default=0)
        return next((path for path in reversed(once) if path.count(".") == depth), None)


class Watch:
    """Runs ``network`` on ``x`` (N, 3, H, W) and keeps what its layers gave, in the order in which they finished."""

    def __init__(self, network: nn.Module, num_classes: int, x: Tensor) -> None:
        self.size, self.channels, self.classes = tuple(x.shape[-2:]), x.shape[1], num_classes
        self.maps: list[Map] = []
        self.calls: dict[str, int] = {}
        #: sizes of pooled grids, and the layers that made them
        self.pooled: set[tuple[int, ...]] = set()
        self.poolings: list[str] = []
        flags = [(module, module.training) for module in network.modules()]
        hooks = [module.register_forward_hook(self._hook(path)) for path, module in network.named_modules() if path]
        try:
            network.eval()
            with torch.no_grad():
                self.logits: Tensor = network(x)
        finally:
            for hook in hooks:
                hook.remove()
            for module, flag in flags:
                module.training = flag

    def _hook(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.calls[path] = self.calls.get(path, 0) + 1
            if "Adaptive" in type(module).__name__:
                self.poolings.append(path)
            passes = isinstance(module, nn.Identity) or "Dropout" in type(module).__name__
            if isinstance(output, Tensor) and output.dim() == 4 and not passes:
                self._keep(path, module, args, output)

        return hook

    def _keep(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        known = next((m for m in reversed(self.maps) if m.tensor() is output), None)
        if known is None:
            size = tuple(output.shape[-2:])
            if "Adaptive" in type(module).__name__ and all(m.stride != self._stride(size) for m in self.maps):
                self.pooled.add(size)
            stride = None if size in self.pooled else self._stride(size)
            reads_one = len(args) == 1 and isinstance(args[0], Tensor)
            whole = reads_one and tuple(args[0].shape[1:]) == (
                self.channels,
                *self.size,
            )  # from image to scores: the network
            known = Map(output, stride, output if output.shape[1] == self.classes and not whole else None, reads_one)
            self.maps.append(known)
        known.makers.append(path)

    def _stride(self, size: Sequence[int]) -> int | None:
        """The stride of a map of ``size`` if both axes have the same, a power of two up to 64, and it has an extent."""
        if max(size) < 2 or size[0] > self.size[0]:
            return None
        power = 2 ** round(math.log2(self.size[0] / size[0]))
        fits = all(abs(own - full / power) < 1 for own, full in zip(size, self.size, strict=True))
        return power if fits and 2 <= power <= DEEPEST else None

    def pools(self, part: str) -> bool:
        """True if a part of the network has an adaptive pooling."""
        return any(_lies_in(path, part) for path in self.poolings)

    def classifier(self) -> Map | None:
        """The first map that is, up to resizing, the logits."""
        return next((m for m in self.maps if m.scores is not None and _same(m.scores, self.logits)), None)


def find_roles(network: nn.Module, num_classes: int, x: Tensor) -> dict[str, str | Sequence[str]]:
    """The roles of ``network``, each only where it was found.

    - ``classifier``: the first layer whose map is the logits, up to resizing; ``head``: what it reads.
    - ``stages``: the last map of each resolution on the way down, from stride 2 on; maps inside a block that reduces
      the size, pooled grids, and maps beside the classifier in one part of the network (``classifier.0``) are none, nor
      at the last resolution what comes after the encoder, or from a part that pools as none before did (context).
    - ``backbone``: the deepest of these.

    Args:
        network: the network; runs once, in eval mode and without gradient.
        num_classes: channels of its logits.
        x: preprocessed images (N, 3, H, W), best not square: global pooling then has no stride.
    """
    watch = Watch(network, num_classes, x)
    found: dict[str, str | Sequence[str]] = {"classifier": (), "head": ()}
    answer = watch.classifier()
    path = None
    if answer is not None and watch.calls[answer.makers[0]] == 1:
        path = answer.makers[0]
        found["classifier"] = path
        if answer.reads_one:
            found["head"] = f"{path}@input"
    stages = _way_down(watch, answer, path)
    if len(stages) > 1:
        found |= {"backbone": stages[-1], "stages": stages}
    return found


def _same(scores: Tensor, logits: Tensor) -> bool:
    """True if the logits are ``scores``, resized in one of the usual ways."""
    close = 1e-4 * float(logits.abs().max())
    size = logits.shape[-2:]
    if scores.shape == logits.shape:
        return bool((scores - logits).abs().max() <= close)
    resized = (F.interpolate(scores.float(), size=size, **way) for way in RESIZES)
    return any(bool((way - logits).abs().max() <= close) for way in resized)


def _way_down(watch: Watch, answer: Map | None, classifier: str | None) -> list[str]:
    """Paths of the last map at each stride, between the first times that it and that a deeper one are reached."""
    end = watch.maps.index(answer) if answer is not None else len(watch.maps)
    named = [(path, m.stride) for m in watch.maps[:end] if (path := m.path(watch.calls)) and m.stride]
    base = _common([path for path, _ in named] + ([classifier] if classifier else []))
    beside = _child(classifier, base) if classifier else ""
    if beside != classifier:
        named = [(path, stride) for path, stride in named if not _lies_in(path, beside)]
    parts = _Parts(named, base)
    maps = [(path, stride) for path, stride in named if not parts.in_a_block(path, stride)]
    if len({stride for _, stride in maps}) < 2:  # all lies in one block
        maps = named
    deepest = max((stride for _, stride in maps), default=0)
    last: dict[int, str] = {}
    for path, stride in maps:
        if stride < max(last, default=0):
            if deepest in last:
                break  # the way up begins
            continue  # another branch, still less deep
        encoder = _child(last[deepest], base) if deepest in last else ""
        if encoder and not _lies_in(path, encoder):
            this, before = (watch.pools(part) for part in (_child(path, base), encoder))
            if parts.is_encoder(encoder) or (this and not before):
                break  # what follows at the backbone's last stride is context
        last[stride] = path
    return list(last.values())


class _Parts:
    """Which strides occur in each part of a network."""

    def __init__(self, named: Sequence[tuple[str, int]], base: str) -> None:
        self.base, self.own = base, dict(named)
        self.strides: dict[str, set[int]] = {}
        for path, stride in named:
            for part in (path, *self.parents(path)):
                self.strides.setdefault(part, set()).add(stride)

    def parents(self, path: str) -> Iterable[str]:
        """The parts around ``path``, from inside to outside, up to ``base``."""
        while (path := path.rpartition(".")[0]) and path != self.base:
            yield path

    def in_a_block(self, path: str, stride: int) -> bool:
        """True for a map inside a block or stage that takes one stride and gives another."""
        return any(self.own.get(part, stride) != stride and len(self.strides[part]) <= 2 for part in self.parents(path))

    def is_encoder(self, part: str) -> bool:
        """True for a part with at least three strides."""
        return len(self.strides[part]) > 2


def _lies_in(path: str, part: str) -> bool:
    return f"{path}.".startswith(f"{part}.")


def _child(path: str, base: str) -> str:
    """The part directly below ``base`` in which ``path`` lies."""
    rest = path[len(base) :].lstrip(".") if base else path
    return f"{base}.{rest.split('.')[0]}" if base else rest.split(".")[0]


def _common(paths: Sequence[str]) -> str:
    """The innermost part in which all lie, and none is it."""
    split = [path.split(".")[:-1] for path in paths]
    shared = []
    for names in zip(*split, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared)
