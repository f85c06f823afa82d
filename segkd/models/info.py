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
    """Networks, each of which can be built with a local file of its state dict.

    ``weights`` is one that fits; ``init`` one whose tensors are taken as far as they fit, for a training to start from:
    what did not is listed in the network's ``left_out``. ``bands`` lets it take images of more than three (see
    ``segkd.models.bands``); ``init`` may then be of RGB, ``weights`` are of all bands.
    """

    def create(self, name: str, /, **kwargs: Any) -> Network:
        """A network by its name, as ``build`` makes it."""
        return self.build({"type": name, **kwargs})

    def build(self, cfg: Any) -> Network:
        """A network from ``dict(type=..., **arguments)``; a built one passes through."""
        if not isinstance(cfg, Mapping) or "type" not in cfg:
            return super().build(cfg)
        taken = inspect.signature(self.resolve(cfg["type"])).parameters
        wide = cfg.get("bands") is not None
        apart = {key for key in ("weights", "init") if cfg.get(key) is not None and (wide or key not in taken)}
        network = super().build({key: value for key, value in cfg.items() if key not in (*apart, "bands")})
        if wide:
            from segkd.models.bands import begin_wide

            begin_wide(network, cfg["bands"], cfg.get("init"))
            apart -= {"init"}
        if "weights" in apart:
            from segkd.models.base import load_weights

            load_weights(network, cfg["weights"])
        if "init" in apart:
            from segkd.models.statedict import init_weights

            network.left_out = init_weights(network, cfg["init"])
        return network


NETWORKS = Networks("network", "segkd.models")
