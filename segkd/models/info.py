"""What can be said of networks before torch is imported: their names, their taps, what was published."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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


NETWORKS: Registry[Network] = Registry("network", "segkd.models")
