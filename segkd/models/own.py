"""Any module as a network: what is needed to train, compare and ship one that knows nothing of segkd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segkd.errors import UserError
from segkd.models.base import Network, Preprocess, Roles, load_weights, resize_to
from segkd.models.finding import find_roles
from segkd.registry import build


class OwnNetwork(Network):
    """A module that takes preprocessed images (N, 3, H, W) and gives logits (N, num_classes, h, w), resized to H, W.

    Its layers are tapped by their own paths behind ``module.`` (``module.layer4``). Its roles are found by running it.

    Args:
        module: the module, or ``dict(type=class, **arguments)``. It may give its logits in a dict, under "out".
        num_classes: number of classes.
        preprocess: what turns a uint8 RGB image into its input; by default 0..1 less ImageNet's mean, over its std.
        weights: local file of this network's state dict.
    """

    def __init__(
        self,
        module: Any,
        num_classes: int,
        preprocess: Preprocess | None = None,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__(num_classes, preprocess)
        self.module: nn.Module = build(module, "module")
        if not isinstance(self.module, nn.Module):
            raise UserError(f"OwnNetwork takes a torch module or dict(type=...), got {module!r}")
        if weights is not None:
            load_weights(self, weights)

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
        logits = out.get("out") if isinstance(out, Mapping) else out
        if not isinstance(logits, Tensor) or logits.dim() != 4 or logits.shape[1] != self.num_classes:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(out).__name__
            raise UserError(
                f"{type(self.module).__name__} must give logits (N, {self.num_classes}, h, w), one channel a class of "
                f"the data set; it gave {got}"
            )
        return resize_to(logits, x.shape[-2:])


def _behind_module(roles: Roles) -> Roles:
    """Roles by the module's own paths -> by the network's."""
    return {
        role: f"module.{path}" if isinstance(path, str) else [f"module.{one}" for one in path]
        for role, path in roles.items()
    }
