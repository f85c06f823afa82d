"""Roles: taps by what they are for, the same words for every network.

    resolve_role(network, "@backbone", x)        # ["trunk.layer4"]
    resolve_role(network, "@stages[-1]", x)      # ["trunk.layer4"]
    resolve_role(network, "@head_preact", x)     # ["head.2@input"]

- ``@logits``      the network's answer at the size of the image (the empty path).
- ``@classifier``  the layer that gives one channel a class, before upsampling.
- ``@head``        what the classifier reads.
- ``@backbone``    the last map of the backbone, before context modules (pyramid pooling, ASPP) where there are such.
- ``@stages``      the last map of each stage of the backbone, from shallow to deep; ``@stages[k]`` is one of them.
- ``@head_preact``, ``@backbone_preact``, ``@stages_preact``: the same maps before their last activation.

A network says which of its taps these are in ``roles``, a mapping from role to tap; without an entry the classifier is
its layer ``classifier``. Where only the images that it sees tell, it has ``find_roles(x)`` instead.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from segkd.errors import UserError, nearest
from segkd.taps import TapPath, eval_mode, tensors_in

ROLES = ("logits", "classifier", "head", "backbone", "stages")
#: after a role: the map before its last activation
PREACT = "_preact"
WITH_PREACT = ("head", "backbone", "stages")
_ROLE = re.compile(r"@(?P<name>[A-Za-z_]+)(\[(?P<index>-?\d+)\])?")
#: elementwise activations of torch; foreign ones are known by the names below
ACTIVATIONS = (
    *(nn.ReLU, nn.RReLU, nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Threshold),
)
NAMES = {cls.__name__.lower() for cls in ACTIVATIONS} | {"swish", "hardmish", "quickgelu", "newgelu", "gelutanh"}
#: share of exact zeros, and no value below, by which a map is taken for rectified
RECTIFIED = 0.1


def is_role(text: str) -> bool:
    """True for the text of a role (``@head``, ``@stages[-1]``), known or not; ``@input`` alone is a tap."""
    match = _ROLE.fullmatch(text)
    return match is not None and match["name"] != "input"


def roles_of(network: nn.Module, x: Tensor | None = None) -> dict[str, str | list[str]]:
    """Every role that ``network`` has, as a tap path, ``stages`` as a list of them.

    Args:
        network: the network.
        x: preprocessed images (N, 3, H, W), for networks that find their roles by running.
    """
    declared = _declared(network, x)
    return {role: declared[role] for role in ROLES if declared.get(role) not in (None, [])}


def resolve_role(network: nn.Module, text: str, x: Tensor) -> list[str]:
    """Tap paths of a role: one, or for ``@stages`` all from shallow to deep.

    Args:
        network: the network.
        text: the role, ``@NAME``, ``@NAME_preact`` or ``@stages[k]``.
        x: preprocessed images (N, 3, H, W); a map before its activation is found by running ``network`` on them once.

    Raises:
        UserError: for an unknown role (with the nearest names), an index out of range, a role that this network has
            not, a map that was rectified outside of any layer.
    """
    name, index = _parse(text)
    declared, base = _declared(network, x), name.removesuffix(PREACT)
    paths = _as_list(declared.get(base))
    if not paths:
        raise UserError(_lacks(network, base, declared))
    chosen = list(range(len(paths))) if index is None else [_position(network, text, index, paths)]
    if name == base:
        return [paths[i] for i in chosen]
    if name in declared:
        given = _as_list(declared[name])
        return [given[i] for i in chosen]
    return preactivations(network, [paths[i] for i in chosen], x)


def pair_stages(student: list[str], teacher: list[str]) -> tuple[list[str], list[str]]:
    """Stages of two networks that belong together: deepest with deepest, then upwards as far as the shorter list goes.

    Both come from shallow to deep, and so do the two lists that come back, which are equally long.
    """
    count = min(len(student), len(teacher))
    if not count:
        raise UserError("stages of two networks can only be paired where both have some")
    return student[-count:], teacher[-count:]


def preactivations(network: nn.Module, paths: Sequence[str], x: Tensor) -> list[str]:
    """Tap paths of the same maps before their last activation, one for each of ``paths``.

    ``network`` runs once on ``x`` (N, 3, H, W), in eval mode and without gradient. A map that no activation made (of a
    linear bottleneck, a sum) is its own. A map that was rectified, but by no layer that can be tapped, is a UserError.
    """
    watch = _Watch(network, paths)
    handles = list(watch.attach())
    try:
        with eval_mode(network):
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    return [watch.before(path) for path in paths]


class _Made:
    """One call of an activation: which layer and call, and its output by reference and state."""

    def __init__(self, path: str, call: int, output: Tensor) -> None:
        self.path, self.call = path, call
        self.output, self.version = weakref.ref(output), output._version

    def is_still(self, tensor: Tensor) -> bool:
        """True if ``tensor`` is the activation's output, and nothing has changed it in place since."""
        return self.output() is tensor and self.version == tensor._version


class _Watch:
    """Remembers in one forward pass which activation made each tapped map.

    An activation in place gives the very tensor that the layers before it gave, so the last one that did counts.
    """

    def __init__(self, network: nn.Module, paths: Sequence[str]) -> None:
        self.network, self.taps = network, {path: TapPath.parse(path) for path in paths}
        self.made: list[_Made] = []
        self.calls: dict[str, int] = {}
        #: tap -> for each call the activation that made its map, None for none; and whether the map is rectified
        self.seen: dict[str, list[tuple[_Made | None, bool]]] = {path: [] for path in paths}

    def attach(self) -> list[RemovableHandle]:
        """Register all hooks, those of the activations first."""
        handles = [
            module.register_forward_hook(self._activation(path))
            for path, module in self.network.named_modules()
            if is_activation(module)
        ]
        for text, tap in self.taps.items():
            module = tap.module(self.network)
            if tap.input:
                handles.append(module.register_forward_pre_hook(self._before(text), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(self._after(text)))
        return handles

    def _activation(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            call = self.calls.get(path, 0)
            self.calls[path] = call + 1
            if isinstance(output, Tensor):
                self.made.append(_Made(path, call, output))

        return hook

    def _before(self, text: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            one = len(args) + len(kwargs) == 1
            both = {**{str(i): value for i, value in enumerate(args)}, **kwargs}
            self._look(text, next(iter(both.values())) if one else both)

        return hook

    def _after(self, text: str) -> Any:
        return lambda module, args, output: self._look(text, output)

    def _look(self, text: str, value: object) -> None:
        tensor = tensors_in(value).get(self.taps[text].item or "")
        if tensor is None:
            self.seen[text].append((None, False))
            return
        made = next((made for made in reversed(self.made) if made.is_still(tensor)), None)
        self.seen[text].append((made, made is None and _is_rectified(tensor)))

    def before(self, text: str) -> str:
        """The path of the map before its activation."""
        seen, call = self.seen[text], self.taps[text].call
        if not seen or not -len(seen) <= (call or 0) < len(seen):
            raise UserError(f"tap {text!r} of {type(self.network).__name__} did not run")
        made, rectified = seen[call or 0]
        if made is not None:
            count = self.calls[made.path]
            which = None if count == 1 else -1 if made.call == count - 1 else made.call
            return str(TapPath(made.path, input=True, call=which))
        if rectified:
            raise UserError(
                f"{type(self.network).__name__} rectifies the map {text!r} in its forward, by no layer of its own: "
                "nothing can be tapped before; give the path of an earlier layer, or take the role without "
                f"{PREACT!r} (a network can name it itself, roles = {{'NAME{PREACT}': 'PATH'}})"
            )
        return text


def is_activation(module: nn.Module) -> bool:
    """True for a layer that is an elementwise activation, of torch or by its name."""
    name = type(module).__name__.lower().removesuffix("activation")
    return isinstance(module, ACTIVATIONS) or (name in NAMES and next(module.children(), None) is None)


def _is_rectified(tensor: Tensor) -> bool:
    """Nothing below zero, and many exact zeros: a ReLU made it, or joined parts that ReLUs made."""
    if tensor.is_meta or not tensor.is_floating_point() or tensor.dim() != 4:
        return False
    zeros = torch.count_nonzero(tensor == 0).item() / max(1, tensor.numel())
    return RECTIFIED < zeros < 1 and tensor.min().item() == 0


def _parse(text: str) -> tuple[str, int | None]:
    """``@stages[-1]`` -> ("stages", -1); an unknown role is a UserError."""
    match = _ROLE.fullmatch(text)
    known = [*ROLES, *(role + PREACT for role in WITH_PREACT)]
    if match is None or match["name"] not in known:
        names = [f"@{name}" for name in known]
        raise UserError(f"there is no role {text!r}; {nearest(text.partition('[')[0], names)}")
    if match["index"] is None:
        return match["name"], None
    if not match["name"].startswith("stages"):
        raise UserError(f"{text!r}: only stages are several, write '@{match['name']}'")
    return match["name"], int(match["index"])


def _declared(network: nn.Module, x: Tensor | None) -> dict[str, Any]:
    """What the network says of itself, and what need not be said."""
    find = getattr(network, "find_roles", None)
    given: Mapping[str, Any] = find(x) if find is not None and x is not None else getattr(network, "roles", {})
    found: dict[str, Any] = {"logits": ""}
    if isinstance(getattr(network, "classifier", None), nn.Module):
        found["classifier"] = "classifier"
    found.update({role: path if isinstance(path, str) else list(path) for role, path in given.items()})
    if found.get("classifier"):
        found.setdefault("head", f"{found['classifier']}@input")
    return found


def _as_list(path: str | Sequence[str] | None) -> list[str]:
    return [] if path is None else [path] if isinstance(path, str) else list(path)


def _position(network: nn.Module, text: str, index: int, paths: list[str]) -> int:
    if not -len(paths) <= index < len(paths):
        raise UserError(
            f"{text!r}: {type(network).__name__} has {len(paths)} stages, [0] to [{len(paths) - 1}] "
            f"(or [-1] for the deepest): {', '.join(paths)}"
        )
    return index % len(paths)


def _lacks(network: nn.Module, role: str, declared: Mapping[str, Any]) -> str:
    has = ", ".join(f"@{name}" for name in ROLES if _as_list(declared.get(name)))
    return (
        f"{type(network).__name__} does not say which of its layers is '@{role}'; it has {has}: "
        "take one of these, or give a layer's path ('layer4')"
    )
