"""What can be said of networks before torch is imported: their names, their taps, what was published."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from segkd.registry import Registry

if TYPE_CHECKING:
    from segkd.models.base import Network


class FeatureInfo(NamedTuple):
    """One layer worth tapping: module path, output channels, stride of its output against the input."""

    path: str
    channels: int
    stride: int


class Result(NamedTuple):
    """A published result of a network.

    ``miou`` in percent on ``split`` of ``dataset`` ("cityscapes", "val"); ``fps`` with the ``hardware`` and the image
    ``size`` (H, W) it was measured on; ``source``: "paper", "repository", or another name to look it up under.
    """

    dataset: str
    split: str
    miou: float | None
    fps: float | None = None
    hardware: str = ""
    size: tuple[int, int] | None = None
    source: str = "paper"


class Networks(Registry["Network"]):
    """Networks, each of which can be built with ``weights``, a local file of its state dict."""

    def build(self, cfg: Any) -> Network:
        """A network from ``dict(type=..., **arguments)``; a built one passes through."""
        if not isinstance(cfg, Mapping) or cfg.get("weights") is None or "type" not in cfg:
            return super().build(cfg)
        if "weights" in inspect.signature(self.resolve(cfg["type"])).parameters:
            return super().build(cfg)
        from segkd.models.base import load_weights

        network = super().build({key: value for key, value in cfg.items() if key != "weights"})
        load_weights(network, cfg["weights"])
        return network


NETWORKS = Networks("network", "segkd.models")
