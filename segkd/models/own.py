"""Any module as a network: what is needed to train, compare and ship one that knows nothing of segkd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segkd.errors import UserError, nearest
from segkd.models.base import Network, Preprocess, Roles, apply_weights, load_weights, resize_to
from segkd.models.finding import find_roles
from segkd.models.statedict import named_as_in, read_state_dict
from segkd.registry import build

#: what a module may call its logits, in a dict or as attributes; the first that is there counts
NAMES = ("out", "logits", "pred", "preds", "prediction", "output", "seg", "mask", "masks")


class OwnNetwork(Network):
    """A module that takes preprocessed images (N, 3, H, W) and gives logits (N, num_classes, h, w), resized to H, W.

    Its layers are tapped by their own paths behind ``module.`` (``module.layer4``). Its roles are found by running it.

    Args:
        module: the module, or ``dict(type=class, **arguments)``. Its logits may be the first of a tuple or list, or in
            a dict under "out", "logits", "pred" (``NAMES``) or under ``output``.
        num_classes: number of classes.
        preprocess: what turns a uint8 RGB image into its input; by default 0..1 less ImageNet's mean, over its std.
        weights: local file of this network's state dict, or of the module's own.
        output: key, attribute or number of the logits among what the module gives.
    """

    def __init__(
        self,
        module: Any,
        num_classes: int,
        preprocess: Preprocess | None = None,
        weights: str | Path | None = None,
        output: str | int | None = None,
    ) -> None:
        super().__init__(num_classes, preprocess)
        self.module: nn.Module = build(module, "module")
        if not isinstance(self.module, nn.Module):
            raise UserError(f"OwnNetwork takes a torch module or dict(type=...), got {module!r}")
        self.output = output
        if weights is not None:
            self._load(weights)

    def _load(self, weights: str | Path) -> None:
        """Load a file of ours, which holds the preprocessing, or the module's own."""
        tensors = read_state_dict(weights)
        if any(name.startswith("preprocess.") for name in tensors):
            load_weights(self, weights)
        else:
            apply_weights(self.module, named_as_in(tensors, self.module), str(weights))

    def find_roles(self, x: Tensor) -> Roles:
        """The roles found in what the module does with ``x`` (N, 3, H, W); a role that is not clear is left out.

        The module may declare its own, ``roles = {"backbone": "layer4", "stages": ("layer1", ...)}``, with its paths.
        """
        if not self.roles:
            own = getattr(self.module, "roles", None)
            found = find_roles(self, self.num_classes, x)
            self.roles = {**found, **(_behind_module(own) if isinstance(own, Mapping) else {})}
        return self.roles

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes, H, W)."""
        out = self.module(x)
        name = type(self.module).__name__
        logits = logits_of(out, name, self.output)
        if not isinstance(logits, Tensor) or logits.dim() != 4 or logits.shape[1] != self.num_classes:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(out).__name__
            raise UserError(
                f"{name} must give logits (N, {self.num_classes}, h, w), one channel a class of the data set; it gave "
                f"{got}"
            )
        return resize_to(logits, x.shape[-2:])


def _behind_module(roles: Roles) -> Roles:
    """Roles by the module's own paths -> by the network's."""
    return {
        role: f"module.{path}" if isinstance(path, str) else [f"module.{one}" for one in path]
        for role, path in roles.items()
    }


def logits_of(out: Any, owner: str, output: str | int | None = None) -> Any:
    """The logits among what the module ``owner`` gave: by a name of ``NAMES`` or ``output``, or the first of several.

    Raises:
        UserError: a dict without them, whose keys it lists.
    """
    if isinstance(out, Tensor) and output is None:
        return out
    if isinstance(out, Mapping) and not all(isinstance(key, str) for key in out):
        raise UserError(f"{owner} gives a dict whose keys are no names: {', '.join(map(repr, out))}")
    names = [output] if output is not None else NAMES
    found = next((value for name in names if (value := _item(out, name)) is not None), None)
    if found is None and output is None and isinstance(out, Sequence | Mapping) and len(out):
        if isinstance(out, Sequence):
            found = out[0]
        elif len(out) == 1:
            found = next(iter(out.values()))
    if found is not None:
        return found if isinstance(found, Tensor) else logits_of(found, owner)
    if isinstance(out, Mapping):
        asked = "its logits are" if output is None else f"{output!r} is"
        hint = f"there is: {', '.join(out)}" if output is None else nearest(str(output), out)
        raise UserError(f"{owner} gives a dict, and {asked} not in it; {hint}; name one by OwnNetwork(..., output=)")
    if output is not None:
        raise UserError(f"{owner} gives no output {output!r} but {type(out).__name__}")
    return out


def _item(out: Any, name: str | int) -> Any:
    """What is called so in a dict or an object, or stands there in a tuple; None if there is nothing."""
    if isinstance(out, Tensor):
        return None
    if isinstance(name, int):
        return out[name] if isinstance(out, Sequence) and -len(out) <= name < len(out) else None
    return out.get(name) if isinstance(out, Mapping) else getattr(out, name, None)
