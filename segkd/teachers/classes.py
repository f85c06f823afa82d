"""The classes of the data among those of a teacher: picked, put in order, several taken as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from segkd.errors import UserError, nearest
from segkd.models import Network
from segkd.models.base import Roles

Groups = list[list[int]]


class PickedClasses(Network):
    """A network of which some outputs are left out, put in another order or taken together.

    Output k is ``log(sum over i in groups[k] of exp(logit i))``: its softmax is the sum of the probabilities of those
    outputs, among all that are kept; an output alone keeps its logit. Its layers are those of the network, under their
    own paths. Input (N, 3, H, W), logits (N, len(groups), H, W).

    Args:
        network: whose outputs they are.
        groups: for each class, the numbers of the outputs that make it, from 0.
        class_names: one name per class.
    """

    _network: Network

    def __init__(
        self, network: Network, groups: Sequence[Sequence[int]], class_names: Sequence[str] | None = None
    ) -> None:
        super().__init__(len(groups), network.preprocess)
        for name, child in network.named_children():
            self.add_module(name, child)
        vars(self)["_network"] = network  # not as a child: its layers are children already
        self.feature_info = network.feature_info
        self.class_names = class_names
        self.groups = [list(group) for group in groups]

    def find_roles(self, x: Tensor) -> Roles:
        """The roles of the network inside; the classifier is its end, as its own layer gives all its outputs."""
        own = dict(self._network.find_roles(x))
        classifier = own.get("classifier", "classifier")
        if "head" not in own and isinstance(classifier, str):
            own["head"] = f"{classifier}@input"
        return {**own, "classifier": ""}

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._network(x)
        if all(len(group) == 1 for group in self.groups):
            return logits[:, [i for group in self.groups for i in group]]
        return torch.stack([together(logits, group) for group in self.groups], dim=1)

    def train(self, mode: bool = True) -> PickedClasses:
        """Set the mode of the network inside, too."""
        super().train(mode)
        self._network.train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PickedClasses:
        """Device and dtype reach what the network inside holds beside its layers."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def together(logits: Tensor, group: Sequence[int]) -> Tensor:
    """The logit (N, H, W) of several outputs of ``logits`` (N, K, H, W) as one class."""
    return logits[:, group[0]] if len(group) == 1 else logits[:, list(group)].logsumexp(1)


def with_classes(network: Network, classes: Any) -> Network:
    """``network`` with the data's classes in their order; see ``segkd.teachers.load_teacher``.

    Raises:
        UserError: a class that no output gives, or that two ask for; names where those of the outputs are not known.
    """
    if isinstance(classes, str) or not isinstance(classes, Mapping | Sequence) or len(classes) == 0:
        raise UserError(
            f"classes= is a list of the data's class names, a dict {{data class: teacher class}}, or a list of numbers "
            f"of outputs, got {classes!r}"
        )
    wanted = list(classes.values()) if isinstance(classes, Mapping) else list(classes)
    names = [str(name) for name in classes] if isinstance(classes, Mapping) else None
    if names is None and all(isinstance(name, str) for name in wanted):
        names = [str(name) for name in wanted]
    groups = [_outputs(network, value, names[k] if names else f"class {k}") for k, value in enumerate(wanted)]
    _check_once(groups)
    if names is None and network.class_names is not None:
        names = ["+".join(network.class_names[i] for i in group) for group in groups]
    return PickedClasses(network, groups, names)


def _outputs(network: Network, value: Any, wanted: str) -> list[int]:
    """The outputs that make one class of the data: of a name, a number, or a list of either."""
    several = value if isinstance(value, list | tuple) else [value]
    if not several:
        raise UserError(f"classes=: nothing of the teacher gives {wanted!r}")
    return [_output(network, one, wanted) for one in several]


def _output(network: Network, value: Any, wanted: str) -> int:
    count = network.num_classes
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < count:
            raise UserError(f"classes=: the teacher has no output {value} for {wanted!r}; they are 0 to {count - 1}")
        return value
    if not isinstance(value, str):
        raise UserError(f"classes=: an output is a name or a number, got {value!r} for {wanted!r}")
    known = network.class_names
    if known is None:
        raise UserError(
            f"classes=: the names of the teacher's outputs are not known, so say the number of {value!r}: "
            f"classes=[...] of 0 to {count - 1}, in the order of the data's classes"
        )
    found = [i for i, name in enumerate(known) if _plain(name) == _plain(value)]
    if len(found) != 1:
        problem = "gives no class" if not found else f"gives {len(found)} times a class"
        asked = "" if value == wanted else f" (for {wanted!r})"
        raise UserError(f"classes=: the teacher {problem} {value!r}{asked}; {nearest(value, known)}")
    return found[0]


def _plain(name: str) -> str:
    """A class name without what data sets spell differently: ``Traffic_Light`` and ``traffic light``."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _check_once(groups: Groups) -> None:
    every = [i for group in groups for i in group]
    twice = sorted({i for i in every if every.count(i) > 1})
    if twice:
        raise UserError(f"classes=: output {twice[0]} of the teacher is asked for twice; each counts for one class")
