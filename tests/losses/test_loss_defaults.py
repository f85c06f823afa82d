"""The defaults are the published ones; a changed one must be changed here, too."""

from __future__ import annotations

import inspect

import pytest

from segkd.losses import LOSSES, names

#: what each paper, or else its published code, uses; for segmentation where it has that
PUBLISHED: dict[str, dict[str, object]] = {
    "ab": {"margin": 1.0},
    "af_dcd": {"temperature": 0.07, "groups": 16, "pool_size": 4, "patch_size": 4, "mask_ratio": 0.75},
    "at": {"p": 2.0},
    "cc": {"kernel": "gaussian", "gamma": 0.4, "max_p": 2},
    "cirkd": {
        "lambda_minibatch_pixel": 1.0,
        "lambda_memory_pixel": 0.1,
        "lambda_memory_region": 0.1,
        "temperature": 0.1,
        "contrast_temperature": 0.1,
        "contrast_kd_temperature": 1.0,
        "pixel_memory_size": 20000,
        "region_memory_size": 2000,
        "pixel_contrast_size": 4096,
        "region_contrast_size": 1024,
    },
    "crd": {"n_data": 2975, "feat_dim": 128, "nce_k": 16384, "temperature": 0.07, "momentum": 0.5},
    "cwd": {"temperature": 4.0},
    "dist": {"beta": 1.0, "gamma": 1.0, "temperature": 1.0},
    "dkd": {"alpha": 1.0, "temperature": 1.0},
    "ft": {"k": 0.5, "p": 1.0},
    "ifvd": {"num_classes": 19},
    "kd": {"temperature": 1.0},
    "knowledge_adaptation": {"k": 0.5, "stride": 2, "p": 1.0, "lambda_affinity": 1.0},
    "mgd": {"lambda_mgd": 0.75},
    "nst": {"degree": 2, "c": 0.0},
    "ofd": {"margin": "auto"},
    "pkt": {"eps": 1e-7},
    "rkd": {"w_d": 25.0, "w_a": 50.0},
    "skd_holistic": {"kind": "wgan-gp", "lambda_gp": 10.0, "conv_dim": 64, "conditional": True},
    "skd_pair": {"pool": None},
    "vid": {"num_mid_channel": None, "init_pred_var": 5.0, "eps": 1e-5},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults(name: str) -> None:
    parameters = inspect.signature(LOSSES.get(name)).parameters
    assert {key: parameters[key].default for key in PUBLISHED[name]} == PUBLISHED[name]


def test_only_losses_without_numbers_are_left_out() -> None:
    assert set(names()) - set(PUBLISHED) == {"fitnet", "fsp", "logit_standardization", "skd_pixel", "sp"}


@pytest.mark.parametrize("name", names())
def test_void_is_255(name: str) -> None:
    parameter = inspect.signature(LOSSES.get(name)).parameters.get("ignore_index")
    assert parameter is None or parameter.default == 255
