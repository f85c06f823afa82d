"""Tiny random models of transformers by their configs, in folders as ``save_pretrained`` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CLASSES = 5
LABELS = {i: f"class {i}" for i in range(CLASSES)}
VIT = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32)


def segformer(t: Any) -> tuple[Any, Any]:
    config = t.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 16, 32], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16
    )
    return t.SegformerForSemanticSegmentation, config


def upernet_convnext(t: Any) -> tuple[Any, Any]:
    backbone = t.ConvNextConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 16, 32], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    return t.UperNetForSemanticSegmentation, t.UperNetConfig(
        backbone_config=backbone, hidden_size=16, auxiliary_channels=8
    )


def upernet_swin(t: Any) -> tuple[Any, Any]:
    return t.UperNetForSemanticSegmentation, t.UperNetConfig(
        backbone_config=swin(t), hidden_size=16, auxiliary_channels=8
    )


def swin(t: Any) -> Any:
    return t.SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def beit(t: Any) -> tuple[Any, Any]:
    config = t.BeitConfig(
        **VIT,
        image_size=64,
        patch_size=16,
        out_indices=[1, 2, 3, 4],
        use_relative_position_bias=True,
        use_absolute_position_embeddings=True,
        auxiliary_channels=8,
    )
    return t.BeitForSemanticSegmentation, config


def data2vec(t: Any) -> tuple[Any, Any]:
    config = t.Data2VecVisionConfig(
        **VIT,
        image_size=64,
        patch_size=16,
        out_indices=[1, 2, 3, 4],
        use_relative_position_bias=True,
        auxiliary_channels=8,
    )
    return t.Data2VecVisionForSemanticSegmentation, config


def dpt(t: Any) -> tuple[Any, Any]:
    config = t.DPTConfig(
        **VIT,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        is_hybrid=False,
    )
    return t.DPTForSemanticSegmentation, config


def mobilevit(t: Any) -> tuple[Any, Any]:
    config = t.MobileViTConfig(
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
        num_attention_heads=2,
        aspp_out_channels=16,
    )
    return t.MobileViTForSemanticSegmentation, config


def mobilenetv2(t: Any) -> tuple[Any, Any]:
    return t.MobileNetV2ForSemanticSegmentation, t.MobileNetV2Config(depth_multiplier=0.25)


def mask2former(t: Any) -> tuple[Any, Any]:
    config = t.Mask2FormerConfig(
        backbone_config=swin(t),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=20,
    )
    return t.Mask2FormerForUniversalSegmentation, config


def maskformer(t: Any) -> tuple[Any, Any]:
    detr = t.DetrConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=12,
    )
    config = t.MaskFormerConfig(backbone_config=swin(t), decoder_config=detr, fpn_feature_size=32, mask_feature_size=32)
    return t.MaskFormerForInstanceSegmentation, config


def eomt(t: Any) -> tuple[Any, Any]:
    config = t.EomtConfig(
        **{k: v for k, v in VIT.items() if k != "intermediate_size"},
        image_size=64,
        patch_size=16,
        num_queries=20,
        num_blocks=1,
        num_upscale_blocks=2,
    )
    return t.EomtForUniversalSegmentation, config


def eomt_dinov3(t: Any) -> tuple[Any, Any]:
    config = t.EomtDinov3Config(**VIT, image_size=64, patch_size=16, num_queries=20, num_blocks=1)
    return t.EomtDinov3ForUniversalSegmentation, config


Maker = Callable[[Any], tuple[Any, Any]]
SEMANTIC: dict[str, Maker] = {
    f.__name__: f for f in (segformer, upernet_convnext, upernet_swin, beit, data2vec, dpt, mobilevit, mobilenetv2)
}
UNIVERSAL: dict[str, Maker] = {f.__name__: f for f in (mask2former, maskformer, eomt, eomt_dinov3)}
PROCESSORS = {
    "segformer": "SegformerImageProcessor",
    "upernet_convnext": "SegformerImageProcessor",
    "upernet_swin": "SegformerImageProcessor",
    "beit": "BeitImageProcessor",
    "data2vec": "BeitImageProcessor",
    "dpt": "DPTImageProcessor",
    "mobilevit": "MobileViTImageProcessor",
    "mobilenetv2": "MobileNetV2ImageProcessor",
    "mask2former": "Mask2FormerImageProcessor",
    "maskformer": "MaskFormerImageProcessor",
    "eomt": "EomtImageProcessor",
    "eomt_dinov3": "EomtImageProcessor",
}


def save(t: Any, kind: str, folder: Path, **processor: Any) -> Any:
    """A random model of ``kind`` and its processor in ``folder``; the library's model itself comes back, in eval."""
    torch.manual_seed(0)
    cls, config = (SEMANTIC | UNIVERSAL)[kind](t)
    config.id2label = LABELS
    config.label2id = {name: i for i, name in LABELS.items()}
    model = cls(config).eval()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            if tensor.dim() < 2:
                tensor.add_(0.2 * torch.rand_like(tensor))
            else:
                tensor.normal_(std=(tensor.shape[0] / tensor.numel()) ** 0.5)
    model.save_pretrained(folder)
    getattr(t, PROCESSORS[kind])(**processor).save_pretrained(folder)
    return model
