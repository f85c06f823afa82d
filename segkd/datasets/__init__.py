"""Data sets by name: ``create("camvid", root=..., split="train")``, ``names()``."""

from segkd.datasets.base import DATASETS, IGNORE, Sample, SegmentationDataset

create = DATASETS.create
names = DATASETS.names

__all__ = ["DATASETS", "IGNORE", "Sample", "SegmentationDataset", "create", "names"]
