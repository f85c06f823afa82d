"""Networks by name: ``create("fast_scnn", num_classes=19)``, ``names()``."""

from segkd.models.base import NETWORKS, FeatureInfo, Network, Preprocess, load_weights

create = NETWORKS.create
names = NETWORKS.names

__all__ = ["NETWORKS", "FeatureInfo", "Network", "Preprocess", "create", "load_weights", "names"]
