"""Distillation losses by name: ``create("cwd", temperature=4.0)``, ``names()``."""

from segkd.losses.base import LOSSES, DistillationLoss

create = LOSSES.create
names = LOSSES.names

__all__ = ["LOSSES", "DistillationLoss", "create", "names"]
