"""Logits of mmsegmentation's own networks, frozen in tests/golden/mmseg.npz.

``python tests/teachers/golden_mmseg.py [NAME ...]`` records them anew; it needs onedl-mmsegmentation 1.4.2, mmcv-lite
2.2.0, ftfy, regex and prettytable beside onedl-mmengine, and onedl-mmpretrain for ConvNeXt.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from mmseg_cases import CLASSES, FILE, image, kept, size_of, values, weights

#: network -> its config of mmsegmentation
CONFIGS = {
    **{f"segformer_b{k}": f"segformer/segformer_mit-b{k}_8xb2-160k_ade20k-512x512" for k in range(6)},
    **{
        f"{arch}_r{depth}{suffix}": f"{arch}/{arch}_r{depth}-d8_4xb2-80k_cityscapes-{crop}"
        for suffix, crop in (("", "512x1024"), ("_769", "769x769"))
        for arch in ("pspnet", "deeplabv3", "deeplabv3plus")
        for depth in (18, 50, 101)
    },
    **{
        f"upernet_convnext_{size}": f"convnext/convnext-{size}_upernet_8xb2-amp-160k_ade20k-512x512"
        for size in ("tiny", "small", "base")
    },
    "fast_scnn": "fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024",
    "bisenetv1_r18": "bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024",
    "bisenetv2": "bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
    "stdc1": "stdc/stdc1_4xb12-80k_cityscapes-512x1024",
    "stdc2": "stdc/stdc2_4xb12-80k_cityscapes-512x1024",
    "ddrnet23_slim": "ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024",
    "ddrnet23": "ddrnet/ddrnet_23_in1k-pre_2xb6-120k_cityscapes-1024x1024",
    **{f"pidnet_{k}": f"pidnet/pidnet-{k}_2xb6-120k_1024x1024-cityscapes" for k in "sml"},
    **{f"icnet_r{depth}": f"icnet/icnet_r{depth}-d8_4xb2-80k_cityscapes-832x832" for depth in (18, 50, 101)},
    "erfnet": "erfnet/erfnet_fcn_4xb4-160k_cityscapes-512x1024",
    "cgnet": "cgnet/cgnet_fcn_4xb4-60k_cityscapes-680x680",
}


def without_downloads(config: Any) -> None:
    """Take every source of weights out of a config, in place, and BatchNorm's synchronisation."""
    if isinstance(config, dict):
        config.update({key: None for key in ("init_cfg", "pretrained") if key in config})
        if config.get("type") == "SyncBN":
            config["type"] = "BN"
    for value in config.values() if isinstance(config, dict) else config:
        if isinstance(value, dict | list | tuple):
            without_downloads(value)


def build(network: str) -> Any:
    """mmsegmentation's network of that config, with few classes, in eval."""
    import mmseg.models
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    if "convnext" in network:
        import mmpretrain.models  # noqa: F401 (registers it)

    init_default_scope("mmseg")
    folder = Path(mmseg.__file__).parent / ".mim" / "configs"
    config = Config.fromfile(folder / f"{CONFIGS[network]}.py").model
    without_downloads(config)
    config.decode_head.num_classes = CLASSES
    config.test_cfg, config.train_cfg = {"mode": "whole"}, {}
    for key in ("size", "test_cfg"):  # padding of batches
        config.data_preprocessor.pop(key, None)
    return MODELS.build(config).eval()


def calibrated(model: Any, run: Callable[[], Any]) -> list[float]:
    """Mean square of what goes into each BatchNorm, to three digits, when those before it are scaled by theirs."""
    power: dict[str, float] = {}

    def measure(name: str) -> Callable[[Any, Any], None]:
        def hook(norm: Any, inputs: Any) -> None:
            power[name] = float(f"{inputs[0].square().mean():.3g}")
            norm.running_var.copy_(values(f"{name}.running_var", tuple(norm.running_var.shape)) * power[name])

        return hook

    norms = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    hooks = [norm.register_forward_pre_hook(measure(name)) for name, norm in norms.items()]
    run()
    for hook in hooks:
        hook.remove()
    return [power.get(name, 1.0) for name in norms]  # 1 for those of auxiliary heads


def record(network: str) -> dict[str, Any]:
    """The two arrays that are kept of a network."""
    model = build(network)
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    model.load_state_dict(weights(shapes, itertools.repeat(1.0)))
    bgr = list(image(network).flip(1))
    inputs = model.data_preprocessor({"inputs": bgr}, training=False)["inputs"]
    meta = dict.fromkeys(("ori_shape", "img_shape", "pad_shape"), size_of(network))
    with torch.no_grad():
        power = calibrated(model, lambda: model.encode_decode(inputs, [meta]))
        model.load_state_dict(weights(shapes, power))
        logits = model.encode_decode(inputs, [meta])
    lines = "\n".join(" ".join([name, *map(str, shape)]) for name, shape in shapes)
    return {
        f"{network}/tensors": np.frombuffer(lines.encode(), np.uint8),
        f"{network}/power": np.array(power),
        f"{network}/logits": kept(logits).numpy(),
    }


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    arrays = dict(np.load(FILE)) if FILE.is_file() else {}
    for name in sys.argv[1:] or CONFIGS:
        arrays |= record(name)
    np.savez_compressed(FILE, **dict(sorted(arrays.items())))
