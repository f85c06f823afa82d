"""The losses' arguments: their defaults are the published ones, and nonsense is refused in one line."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from traits import trait

from segkd.errors import UserError
from segkd.losses import LOSSES, names

#: what each paper, or else its published code, uses; for segmentation where it has that
PUBLISHED: dict[str, dict[str, object]] = {
    "ab": {"margin": 1.0},
    "af_dcd": {"temperature": 0.07, "groups": 16, "pool_size": 4, "patch_size": 4, "mask_ratio": 0.75}
    | {"lambda_fd": 33.5, "lambda_ocd": 0.08},
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
    "dkd": {"alpha": 1.0, "beta": 0.5, "temperature": 1.0},
    "ft": {"k": 0.5, "p": 1.0},
    "ifvd": {"num_classes": 19},
    "kd": {"temperature": 1.0},
    "knowledge_adaptation": {"k": 0.5, "stride": 2, "p": 1.0, "lambda_adapt": 0.1, "lambda_affinity": 1.0},
    "mgd": {"lambda_mgd": 0.75},
    "nst": {"degree": 2, "c": 0.0},
    "ofd": {"margin": "auto"},
    "pkt": {"eps": 1e-7},
    "rkd": {"w_d": 25.0, "w_a": 50.0},
    "skd_holistic": {"kind": "wgan-gp", "lambda_gp": 10.0, "conv_dim": 64, "conditional": True},
    "skd_pair": {"pool": None, "detach_norm": True},
    "vid": {"num_mid_channel": None, "init_pred_var": 5.0, "eps": 1e-5},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults(name: str) -> None:
    parameters = inspect.signature(LOSSES.get(name)).parameters
    assert {key: parameters[key].default for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.slow
def test_only_losses_without_numbers_are_left_out() -> None:
    assert set(names()) - set(PUBLISHED) == {"fitnet", "fsp", "logit_standardization", "skd_pixel", "sp"}


@pytest.mark.parametrize("name", names())
def test_void_is_255(name: str) -> None:
    parameter = inspect.signature(LOSSES.get(name)).parameters.get("ignore_index")
    assert parameter is None or parameter.default == 255


NOT_FINITE = (float("nan"), float("inf"), -float("inf"))
#: what an argument of a kind cannot be, by its annotation
REFUSED: dict[str, tuple[Any, ...]] = {
    "float": (*NOT_FINITE, "1", True, None, [1.0]),
    "int": (*NOT_FINITE, 1.5, "3", True, None, [3]),
    "int | None": (*NOT_FINITE, 1.5, "3", True, [3]),
    "bool": (1, "yes", None),
    "str": ("no such thing", 3, None),
}
#: further: sizes, counts and temperatures above 0, weights and margins from 0 (all refuse -1)
BELOW_ZERO = ("float", "int", "int | None")


def numbered_arguments() -> list[tuple[str, str, Any]]:
    """(loss, argument, a value that it cannot use)."""
    cases: list[tuple[str, str, Any]] = []
    for name in names():
        for argument, parameter in inspect.signature(LOSSES.get(name)).parameters.items():
            kind = str(parameter.annotation)
            cases += [(name, argument, value) for value in REFUSED.get(kind, ())]
            if kind in BELOW_ZERO and argument != "ignore_index":
                cases.append((name, argument, -1))
    return cases


@pytest.mark.parametrize(("name", "argument", "value"), numbered_arguments())
def test_nonsense_is_refused_in_one_line(name: str, argument: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        LOSSES.create(name, **{**trait(name).kwargs, argument: value})
    message = str(caught.value)
    assert "\n" not in message
    assert argument in message


@pytest.mark.slow
def test_every_argument_has_a_kind_that_is_tried() -> None:
    kinds = {
        str(parameter.annotation)
        for name in names()
        for parameter in inspect.signature(LOSSES.get(name)).parameters.values()
    }
    assert kinds - set(REFUSED) == {"Pool", "Mapping[str, Any] | DistillationLoss | None"}


@pytest.mark.parametrize("pool", [3, "scale", ("scale",), ("scale", 0), ("scale", 2), ("kernel", 1.5), *NOT_FINITE])
def test_a_pool_that_is_none_is_refused(pool: Any) -> None:
    with pytest.raises(UserError, match="pool"):
        LOSSES.create("skd_pair", pool=pool)


@pytest.mark.parametrize("size", NOT_FINITE)
@pytest.mark.parametrize("kind", ["scale", "kernel"])
def test_a_pool_of_no_size_is_refused(kind: str, size: float) -> None:
    with pytest.raises(UserError, match="pool"):
        LOSSES.create("skd_pair", pool=(kind, size))
