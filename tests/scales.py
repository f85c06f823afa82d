"""Published values in terms of ours: the table of a loss's class, with numbers put in."""

from __future__ import annotations

from segkd.losses import LOSSES


def scale_of(name: str, published: str, **sizes: float) -> float:
    """What the published value is of the loss's, by its ``published_scale``, for these sizes (N=, C=, H=, ...)."""
    return float(eval(LOSSES.get(name).published_scale[published], {"__builtins__": {}}, sizes))
