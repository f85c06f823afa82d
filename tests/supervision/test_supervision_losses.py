"""Losses of labels against plain float64 forms; what void, half precision and several processes must not change."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain import (
    VOID,
    balanced_bce,
    bce_and_dice,
    details,
    draw_label,
    draw_logits,
    ohem_bisenet,
    ohem_pidnet,
    opencv_boundary,
    opencv_distance,
    true_class,
)
from processes import two_processes
from torch import Tensor, distributed, nn

from segkd.errors import UserError
from segkd.registry import build, construct
from segkd.supervision import (
    OHEM,
    BoundaryAwareCE,
    BoundaryBCE,
    BoundaryWeightedCE,
    CrossEntropy,
    DetailLoss,
    Dice,
    Focal,
    Lovasz,
)
from segkd.workbench.composing import compose

CLASSES = 7
WEIGHT = [0.5, 1.0, 2.0, 0.25, 3.0, 1.5, 0.75]
#: name -> (the loss, channels of what it takes)
LOSSES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "cross_entropy": (CrossEntropy, CLASSES),
    "weighted": (lambda: CrossEntropy(class_weight=WEIGHT), CLASSES),
    "by_pixels": (lambda: CrossEntropy(class_weight=WEIGHT, divide_by="pixels"), CLASSES),
    "ohem_loss": (lambda: OHEM(0.7, 1 / 16), CLASSES),
    "ohem_probability": (lambda: OHEM(0.9, 50, WEIGHT, "probability"), CLASSES),
    "dice": (Dice, CLASSES),
    "dice_images": (lambda: Dice(class_weight=WEIGHT, smooth=1.0, per_image=True), CLASSES),
    "lovasz": (lambda: Lovasz(class_weight=WEIGHT), CLASSES),
    "lovasz_images": (lambda: Lovasz(per_image=True), CLASSES),
    "focal": (lambda: Focal(class_weight=WEIGHT), CLASSES),
    "focal_root": (lambda: Focal(gamma=0.5), CLASSES),
    "focal_sigmoid": (lambda: Focal(alpha=0.25, form="sigmoid"), CLASSES),
    "boundary_bce": (BoundaryBCE, 1),
    "detail": (DetailLoss, 1),
    "boundary_weighted": (lambda: BoundaryWeightedCE((2, 5), (8, 3, 1)), CLASSES),
}
every = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def gradient(loss: nn.Module, logits: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, *rest)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@every
def test_void_takes_no_part(name: str) -> None:
    make, channels = LOSSES[name]
    label = draw_label()
    logits = draw_logits(label, channels)
    value, grad = gradient(make(), logits, label)
    assert grad.movedim(1, -1)[label == VOID].abs().max() == 0
    assert grad.movedim(1, -1)[label != VOID].abs().max() > 0
    changed = torch.where((label == VOID)[:, None], torch.full_like(logits, 77.0), logits)
    torch.testing.assert_close(gradient(make(), changed, label)[0], value)


@every
def test_nothing_but_void_is_zero_with_zero_gradient(name: str) -> None:
    make, channels = LOSSES[name]
    label = torch.full((2, 37, 51), VOID)
    value, grad = gradient(make(), torch.randn(2, channels, 37, 51), label)
    assert value == 0
    assert grad.abs().max() == 0


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised(name: str, dtype: torch.dtype) -> None:
    make, channels = LOSSES[name]
    label = draw_label()
    logits = draw_logits(label, channels).to(dtype)
    value = make()(logits, label)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, make()(logits.float(), label))


@every
def test_extreme_logits_are_finite(name: str) -> None:
    make, channels = LOSSES[name]
    label = draw_label()
    value, grad = gradient(make(), draw_logits(label, channels).float().sign() * 1e4, label)
    assert value.isfinite()
    assert grad.isfinite().all()


@every
def test_losses_hold_no_state(name: str) -> None:
    """Checkpoints of trainings without a loss's constants stay loadable, and nothing trains unseen."""
    loss = LOSSES[name][0]()
    assert not loss.state_dict()
    assert not list(loss.parameters())


def test_cross_entropy_is_divided_by_weights_or_by_all_pixels() -> None:
    """Of two pixels, one of them void: its loss itself, or half of its weighted loss; and of many, in float64."""
    logits, label = torch.zeros(1, 2, 1, 2, dtype=torch.float64), torch.tensor([[[0, VOID]]])
    half = torch.tensor(2.0, dtype=torch.float64).log()
    torch.testing.assert_close(CrossEntropy([0.25, 1.0])(logits, label), half)
    torch.testing.assert_close(CrossEntropy([0.25, 1.0], divide_by="pixels")(logits, label), half * 0.25 / 2)
    label = draw_label()
    logits = draw_logits(label, CLASSES)
    probability, classes = true_class(logits, label)
    weight = torch.tensor(WEIGHT, dtype=torch.float64)[classes]
    total = -(weight * probability.log()).sum()
    torch.testing.assert_close(CrossEntropy(WEIGHT)(logits, label), total / weight.sum())
    torch.testing.assert_close(CrossEntropy(WEIGHT, divide_by="pixels")(logits, label), total / label.numel())


@pytest.mark.parametrize("scale", [0.1, 3.0, 8.0])
@pytest.mark.parametrize("least", [1, 300, 2000])
def test_both_published_ohems(scale: float, least: int) -> None:
    """Few or many hard pixels, above or below the least number; value and gradient."""
    label = draw_label()
    logits = draw_logits(label, CLASSES, scale)
    weight = torch.tensor(WEIGHT, dtype=torch.float64)
    for ours, plain in (
        (OHEM(0.7, least), lambda x: ohem_bisenet(x, label, 0.7, least)),
        (OHEM(0.9, least, select="probability"), lambda x: ohem_pidnet(x, label, 0.9, least, torch.ones_like(weight))),
        (OHEM(0.9, least, WEIGHT, "probability"), lambda x: ohem_pidnet(x, label, 0.9, least, weight)),
    ):
        leaf = logits.clone().requires_grad_()
        want = plain(leaf)
        want.backward()
        value, grad = gradient(ours, logits, label)
        torch.testing.assert_close(value, want.detach())
        torch.testing.assert_close(grad, leaf.grad)


def test_the_cases_of_ohem_are_all_met() -> None:
    """Of the pixels drawn above, more than the least are hard in some cases, and fewer in others."""
    label = draw_label()
    hard = [int((true_class(draw_logits(label, CLASSES, s), label)[0] < 0.7).sum()) for s in (0.1, 3.0, 8.0)]
    assert hard[0] > 2000 > hard[1] > 1
    assert 2000 > hard[2] > 300


def test_a_part_of_the_valid_pixels_is_kept() -> None:
    label = draw_label()
    logits = draw_logits(label, CLASSES, 8.0)
    least = int((label != VOID).sum()) // 4
    torch.testing.assert_close(OHEM(0.01, 0.25)(logits, label), ohem_bisenet(logits, label, 0.01, least))


def test_class_weights_select_by_loss_or_not() -> None:
    """Two pixels of probability 1/2: that of the class with factor 1/4 has a loss below -ln(0.7) only if weighted."""
    logits, label = torch.zeros(1, 2, 1, 2, dtype=torch.float64), torch.tensor([[[0, 1]]])
    half = torch.tensor(2.0, dtype=torch.float64).log()
    weight = [0.25, 1.0]
    torch.testing.assert_close(OHEM(0.7, 0, weight)(logits, label), half)
    torch.testing.assert_close(OHEM(0.7, 0, weight, "probability")(logits, label), half * 1.25 / 2)


def test_all_valid_pixels_count_where_fewer_are_asked_for() -> None:
    label = draw_label()
    logits = draw_logits(label, CLASSES, 8.0)
    for select in ("loss", "probability"):
        got = OHEM(0.7, 131072, select=select)(logits, label)
        torch.testing.assert_close(got, CrossEntropy()(logits, label))


def test_a_nan_is_not_lost_among_easy_pixels() -> None:
    label = draw_label()
    logits = draw_logits(label, CLASSES)
    logits[1, 0, 20, 20] = float("nan")
    label[1, 20, 20] = 0
    assert OHEM()(logits, label).isnan()


@pytest.mark.parametrize("void", [0.0, 0.05])
def test_boundary_bce_is_pidnets(void: float) -> None:
    label = draw_label(void=void)
    logits = draw_logits(label, 1)
    want = balanced_bce(logits[:, 0], opencv_boundary(label), torch.ones_like(label, dtype=torch.bool))
    torch.testing.assert_close(BoundaryBCE(void_is_class=True)(logits, label), want)
    if not void:
        torch.testing.assert_close(BoundaryBCE()(logits, label), want)
    else:
        assert abs(BoundaryBCE()(logits, label) - want) > 1e-3


def test_boundary_aware_loss_sees_only_what_its_gate_lets_through() -> None:
    label = draw_label()
    logits, gate = draw_logits(label, CLASSES), draw_logits(label, 1)
    through = label.masked_fill(gate[:, 0] <= torch.tensor(0.8 / 0.2).log(), VOID)
    assert 0 < (through != VOID).sum() < (label != VOID).sum()
    torch.testing.assert_close(BoundaryAwareCE()(logits, label, gate), CrossEntropy()(logits, through))
    inner = BoundaryAwareCE(loss=dict(type=OHEM, threshold=0.9, min_kept=10, select="probability"))
    ones = torch.ones(CLASSES, dtype=torch.float64)
    torch.testing.assert_close(inner(logits, label, gate), ohem_pidnet(logits, through, 0.9, 10, ones))


def test_a_closed_gate_is_zero_and_the_gate_gets_no_gradient() -> None:
    label = draw_label()
    logits, gate = draw_logits(label, CLASSES), draw_logits(label, 1).requires_grad_()
    value, grad = gradient(BoundaryAwareCE(), logits, label, torch.full_like(gate, -3.0))
    assert value == 0
    assert grad.abs().max() == 0
    leaf = logits.requires_grad_()
    assert torch.autograd.grad(BoundaryAwareCE()(leaf, label, gate), [leaf, gate], allow_unused=True)[1] is None


def test_pidnets_config_is_its_authors_loss() -> None:
    """All terms on full-size outputs of its heads, with class weights and void, where void is a class for boundaries.

    The least number of hard pixels is made smaller than the label.
    """
    terms = copy.deepcopy(compose("pidnet_s", data="cityscapes")["model"]["supervision"])
    terms["boundary"]["loss"]["void_is_class"] = True
    for term in (terms["main"]["loss"], terms["boundary_aware"]["loss"]["loss"]):
        assert term.pop("min_kept") == 131072
        term["min_kept"] = 300
    losses = {name: build(term["loss"], "loss") for name, term in terms.items()}
    label = draw_label(classes=19)
    main, detail, boundary = (draw_logits(label, channels) for channels in (19, 19, 1))
    got = {
        "main": losses["main"](main, label),
        "detail": losses["detail"](detail, label),
        "boundary": losses["boundary"](boundary, label),
        "boundary_aware": losses["boundary_aware"](main, label, boundary),
    }
    weight = torch.tensor(terms["main"]["loss"]["class_weight"]).double()
    probability, classes = true_class(detail, label)
    edges = label.masked_fill(boundary[:, 0].sigmoid() <= 0.8, VOID)
    want = [
        ohem_pidnet(main, label, 0.9, 300, weight),
        0.4 * -(weight[classes] * probability.log()).sum() / label.numel(),
        20 * balanced_bce(boundary[:, 0], opencv_boundary(label), torch.ones_like(label, dtype=torch.bool)),
        ohem_pidnet(main, edges, 0.9, 300, weight),
    ]
    for (name, value), expected in zip(got.items(), want, strict=True):
        torch.testing.assert_close(terms[name].get("weight", 1.0) * value, expected, msg=lambda m, n=name: f"{n}: {m}")


def test_detail_loss_is_stdcs() -> None:
    label = draw_label(void=0.05)
    logits = draw_logits(label, 1)
    torch.testing.assert_close(
        DetailLoss(void_is_class=True)(logits, label), bce_and_dice(logits[:, 0], details(label))
    )
    known = draw_label(void=0.0)
    torch.testing.assert_close(DetailLoss()(logits, known), bce_and_dice(logits[:, 0], details(known)))


def test_boundary_weights_fall_with_the_distance() -> None:
    """Two halves: the distance of a column to where they meet is known."""
    label = torch.zeros(1, 6, 40, dtype=torch.long)
    label[:, :, 20:] = 1
    label[:, 0] = VOID
    loss = BoundaryWeightedCE((2, 5, 12), (8, 4, 2, 1), gamma=0.5)
    column = torch.arange(40)
    distance = torch.where(column < 20, 20 - column, column - 19)
    factor = sum(
        (distance >= low) * (distance < high) * f for low, high, f in ((0, 2, 8), (2, 5, 4), (5, 12, 2), (12, 99, 1))
    )
    torch.testing.assert_close(loss.pixel_factors(label)[0, 1:], factor.float().expand(5, 40))
    logits = draw_logits(label, 2)
    p, _ = true_class(logits, label)
    want = (factor.expand(5, 40).flatten() * (0.5 * (1 - p)).exp() * -p.log()).mean()
    torch.testing.assert_close(loss(logits, label), want)


@pytest.mark.parametrize("void_is_class", [True, False])
def test_swiftnets_config_is_its_authors_loss(void_is_class: bool) -> None:
    """Large regions with void in them: 8 nearer than 16 pixels, 4 nearer than 64, 2 nearer than 128, 1 beyond."""
    given = copy.deepcopy(compose("swiftnet_rn18_pyramid", data="cityscapes")["model"]["supervision"]["main"])
    assert given["loss"]["void_is_class"]
    given["loss"]["void_is_class"] = void_is_class
    loss = build(given["loss"], "loss")
    assert not BoundaryWeightedCE().void_is_class
    label = torch.zeros(2, 150, 420, dtype=torch.long)
    label[0, 20:60, 40:90], label[0, :, 330:], label[1, 100:, 200:] = 5, 18, 11
    label[:, 140:150, 100:110] = VOID
    distance, known = opencv_distance(label, void_is_class), label != VOID
    factor = np.array([8.0, 4.0, 2.0, 1.0])[np.digitize(distance, (16, 64, 128))]
    assert all((factor[known.numpy()] == f).any() for f in (8, 4, 2, 1))
    assert (distance[known] == 16).any()
    torch.testing.assert_close(loss.pixel_factors(label)[known], torch.from_numpy(factor).float()[known])
    logits = draw_logits(label, 19)
    p, _ = true_class(logits, label)
    want = (torch.from_numpy(factor)[known] * (0.5 * (1 - p)).exp() * -p.log()).mean()
    torch.testing.assert_close(loss(logits, label), want)


def test_boundary_weights_of_one_are_plain_cross_entropy() -> None:
    label = draw_label()
    logits = draw_logits(label, CLASSES)
    plain = BoundaryWeightedCE((4,), (1, 1), gamma=0)(logits, label)
    torch.testing.assert_close(plain, CrossEntropy()(logits, label))


def test_what_cannot_be_is_refused() -> None:
    for make, message in (
        (lambda: OHEM(threshold=0), "above 0"),
        (lambda: OHEM(min_kept=-1), "min_kept"),
        (lambda: OHEM(min_kept=2.5), "min_kept"),
        (lambda: OHEM(select="probabilty"), "did you mean 'probability'"),
        (lambda: CrossEntropy(divide_by="pixel"), "did you mean 'pixels'"),
        (lambda: BoundaryBCE(width=0), "width"),
        (lambda: BoundaryAwareCE(threshold=1.0), "below 1"),
        (lambda: DetailLoss(strides=(1, 2)), "as many strides"),
        (lambda: BoundaryWeightedCE((4, 4), (3, 2, 1)), "increasing"),
        (lambda: BoundaryWeightedCE((4, 8), (3, 2)), "one more factor"),
        (lambda: BoundaryBCE()(torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8).long()), "one logit a pixel, got 2"),
    ):
        with pytest.raises(UserError, match=message):
            make()


def on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    label, logits = torch.load(f"{folder}/given.pt")
    here = slice(3 * rank, 3 + rank)  # three samples, then one
    results = {}
    for name, (make, channels) in LOSSES.items():
        results[name] = gradient(make(), logits[channels][here], label[here])
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """However unevenly samples and void are spread. OHEM and Lovász sort within a process."""
    label = draw_label(4)
    label[0], label[3, :30] = VOID, VOID
    logits = {channels: draw_logits(label, channels) for channels in (1, CLASSES)}
    torch.save((label, logits), tmp_path / "given.pt")
    two_processes(on_rank, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, (make, channels) in LOSSES.items():
        (value_0, grad_0), (value_1, grad_1) = (rank[name] for rank in ranks)
        if name in ("ohem_probability", "lovasz"):
            continue
        value, grad = gradient(make(), logits[channels], label)
        torch.testing.assert_close((value_0 + value_1) / 2, value, msg=lambda m, name=name: f"{name}: {m}")
        joined = torch.cat([grad_0, grad_1]) / 2
        torch.testing.assert_close(joined, grad, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (CrossEntropy, dict(ignore_index=0.5)),
        (CrossEntropy, dict(class_weight=[1.0, math.nan])),
        (CrossEntropy, dict(class_weight="heavy")),
        (OHEM, dict(threshold=math.nan)),
        (OHEM, dict(threshold=1.1)),
        (OHEM, dict(min_kept=math.inf)),
        (OHEM, dict(min_kept=1.5)),
        (BoundaryBCE, dict(width=1.5)),
        (BoundaryBCE, dict(border=-1)),
        (BoundaryBCE, dict(void_is_class="no")),
        (BoundaryAwareCE, dict(threshold=math.nan)),
        (DetailLoss, dict(strides=(1, 2.5, 4))),
        (DetailLoss, dict(fuse=(0.6, 0.3, math.nan))),
        (BoundaryWeightedCE, dict(gamma=math.nan)),
        (BoundaryWeightedCE, dict(factors=(8.0, 6.0, 4.0, 2.0, -1.0))),
        (BoundaryWeightedCE, dict(distances=(4, 16, 64, 128.5))),
    ],
)
def test_nonsense_is_refused_in_one_line(kind: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(arguments))) as caught:
        construct(kind, arguments)
    assert "\n" not in str(caught.value)
