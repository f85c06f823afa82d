"""Procedural street scenes: ``render(height, width, rng) -> (image, label)``."""

from segkd.datasets._scene.scene import render

__all__ = ["render"]
