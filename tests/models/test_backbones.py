"""``pretrained="FILE"``: the library's own classification network in a file, its maps in ours; what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from segkd.models import create

SWIN = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), strict_img_size=False)


def scrambled(network: nn.Module) -> nn.Module:
    """The network in eval with parameters and statistics that no initialisation gives."""
    torch.manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) * 0.1 + 0.01)
    return network.eval()


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("resnet18", {}),
        ("convnext_atto", {}),
        ("densenet121", {}),
        ("mobilenetv3_small_050", {}),
        ("hrnet_w18_small", {}),
        ("swin_tiny_patch4_window7_224", SWIN),
        ("efficientformer_l1", {}),
        ("resnet18", {"out_indices": (1, 2, 3)}),
    ],
)
def test_timms_own_file(encoder: str, options: dict[str, Any], tmp_path: Path) -> None:
    whole = scrambled(timm.create_model(encoder, **{k: v for k, v in options.items() if k != "out_indices"}))
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    library = timm.create_model(
        encoder,
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(tmp_path / "whole.pth")),
        features_only=True,
        **options,
    )
    network = create("timm", encoder=encoder, num_classes=3, pretrained=tmp_path / "whole.pth", **options)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for ours, theirs in zip(network.eval().encoder(x), library.eval()(x), strict=True):  # type: ignore[operator]
            torch.testing.assert_close(ours, theirs)
    config = timm.get_pretrained_cfg(encoder)
    torch.testing.assert_close(network.preprocess.mean, torch.tensor(config.mean))
