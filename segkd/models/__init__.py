"""Networks by name: ``create("fast_scnn", num_classes=19)``, ``names()``; torch is imported with the first of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from segkd.models.info import NETWORKS, FeatureInfo, Result

if TYPE_CHECKING:
    from segkd.models.base import Network, Preprocess, load_weights
else:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module("segkd.models.base"), name)


create = NETWORKS.create
names = NETWORKS.names

__all__ = ["NETWORKS", "FeatureInfo", "Network", "Preprocess", "Result", "create", "load_weights", "names"]
