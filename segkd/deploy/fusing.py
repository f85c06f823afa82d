"""Re-parameterisation: branches that a network trains with, merged into the one convolution that they compute.

timm's mobile networks (MobileOne, RepViT, RepVGG, FastViT, RepGhost) train several parallel convolutions and BatchNorms
that are together one convolution in inference; each such layer knows how to merge itself. A BatchNorm directly behind a
convolution is merged by the exporter.
"""

from __future__ import annotations

import copy

from torch import nn

METHODS = ("fuse", "reparameterize", "switch_to_deploy")  # the first gives the new layer, the others change theirs


def fuse(network: nn.Module) -> tuple[nn.Module, int]:
    """A copy of a network in eval mode whose branches are merged, and how many of its layers that changed.

    timm's own ``reparameterize_model`` calls whatever is named ``fuse``, also a network's layer of that name; here only
    methods of a layer's class count.
    """
    if not any(method_of(module) for module in network.modules()):
        return network, 0
    merged = copy.deepcopy(network)
    return merged, _merge_children(merged)


def _merge_children(module: nn.Module) -> int:
    """Merge all layers below a module, and return how many were."""
    count = 0
    for name, child in list(module.named_children()):
        method = method_of(child)
        if method == "fuse":
            setattr(module, name, child.fuse())  # type: ignore[operator]
        elif method:
            getattr(child, method)()
        count += (method is not None) + _merge_children(getattr(module, name))
    return count


def method_of(module: nn.Module) -> str | None:
    """The method by which a layer merges its branches; None for a layer without any."""
    return next((name for name in METHODS if callable(getattr(type(module), name, None))), None)
