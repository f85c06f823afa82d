"""Dice, Lovász and focal losses against segmentation-models-pytorch's, and against closed forms in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from plain import VOID, draw_label, draw_logits, true_class
from segmentation_models_pytorch import losses as smp
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.supervision import CrossEntropy, Dice, Focal, Lovasz
from segkd.supervision.region import lovasz_by_class

CLASSES = 7
WEIGHT = [0.5, 1.0, 2.0, 0.25, 3.0, 1.5, 0.75]
MODE = dict(mode="multiclass", ignore_index=VOID)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def draw(scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Labels with void, that lack the last class."""
    label = draw_label()
    label[label == CLASSES - 1] = 0
    return draw_logits(label, CLASSES, scale), label


def both(ours: nn.Module, theirs: nn.Module, factor: float, scale: float, rtol: float = 1e-9) -> None:
    """Value and gradient are theirs times a factor."""
    logits, label = draw(scale)
    logits = logits.to(torch.float64 if rtol < 1e-6 else torch.float32)
    grads = []
    for loss, times in ((ours, 1.0), (theirs, factor)):
        leaf = logits.clone().requires_grad_()
        value = times * loss(leaf, label)
        value.backward()
        grads.append((value.detach(), leaf.grad))
    torch.testing.assert_close(grads[0][0], grads[1][0], rtol=rtol, atol=1e-3 * rtol)
    torch.testing.assert_close(grads[0][1], grads[1][1], rtol=100 * rtol, atol=1e-3 * rtol)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_dice_is_smps(scale: float) -> None:
    both(Dice(), smp.DiceLoss(**MODE), CLASSES / (CLASSES - 1), scale)
    both(Dice(smooth=2.0), smp.DiceLoss(**MODE, smooth=1.0), CLASSES / (CLASSES - 1), scale)
    weighted = smp.DiceLoss(**MODE, class_weights=torch.tensor(WEIGHT, dtype=torch.float64))
    both(Dice(WEIGHT), weighted, sum(WEIGHT) / sum(WEIGHT[:-1]), scale)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_lovasz_is_smps(scale: float) -> None:
    """In float32, as theirs takes no other."""
    both(Lovasz(), smp.LovaszLoss(**MODE), 1.0, scale, 1e-5)
    both(Lovasz(per_image=True), smp.LovaszLoss(**MODE, per_image=True), 1.0, scale, 1e-5)


def test_lovasz_is_the_sum_over_growing_sets_of_errors() -> None:
    """Its definition: the largest errors first, each times what its pixel adds to 1 - IoU of the pixels so far."""
    logits, label = draw()
    valid = label != VOID
    probability, label = logits.softmax(1).movedim(1, -1)[valid][:60], label[valid][:60]
    values = []
    for k in label.unique().tolist():
        truth = {p for p, own in enumerate(label.tolist()) if own == k}
        errors = [(abs((p in truth) - float(probability[p, k])), p) for p in range(len(label))]
        wrong, before, total = set(), 0.0, 0.0
        for error, p in sorted(errors, reverse=True):
            wrong.add(p)
            jaccard = 1 - len(truth - wrong) / len(truth | wrong)
            total, before = total + error * (jaccard - before), jaccard
        values.append(total)
    found = Lovasz()(probability.log().T[None, :, None], label[None, None])
    torch.testing.assert_close(found, torch.tensor(values, dtype=torch.float64).mean())


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_focal_is_smps(scale: float) -> None:
    for alpha, gamma in ((0.25, 2.0), (None, 1.5), (None, 0.0)):
        both(Focal(gamma, alpha, form="sigmoid"), smp.FocalLoss(**MODE, alpha=alpha, gamma=gamma), 1.0, scale)
    weighted = smp.FocalLoss(**MODE, class_weights=torch.tensor(WEIGHT, dtype=torch.float64))
    both(Focal(2.0, None, WEIGHT, "sigmoid"), weighted, 1.0, scale)


def test_focal_by_its_formula() -> None:
    logits, label = draw()
    probability, classes = true_class(logits, label)
    weight = torch.tensor(WEIGHT, dtype=torch.float64)[classes]
    each = (1 - probability) ** 2 * -probability.log()
    torch.testing.assert_close(Focal()(logits, label), each.mean())
    torch.testing.assert_close(Focal(class_weight=WEIGHT)(logits, label), (weight * each).sum() / weight.sum())
    torch.testing.assert_close(Focal(gamma=0)(logits, label), CrossEntropy()(logits, label))
    plain = CrossEntropy(WEIGHT)(logits, label)
    torch.testing.assert_close(Focal(gamma=0, class_weight=WEIGHT)(logits, label), plain)


def test_dice_of_two_pixels() -> None:
    """Probabilities 3/4 and 1/4 of two classes: Dice is 2 * 3/4 / (1 + 1) for both."""
    three = torch.tensor(3.0, dtype=torch.float64).log()
    logits = torch.stack([torch.stack([three, three * 0]), torch.stack([three * 0, three])])[None, :, None]
    label = torch.tensor([[[0, 1]]])
    torch.testing.assert_close(Dice()(logits, label), torch.tensor(0.25, dtype=torch.float64))
    logits = torch.stack([logits[..., 0], -logits[..., 0]], -1)  # the second pixel is void, and says the contrary
    torch.testing.assert_close(
        Dice()(logits, torch.tensor([[[0, VOID]]])), torch.tensor(1 - 1.5 / 1.75, dtype=torch.float64)
    )


def test_lovasz_meets_the_jaccard_loss_at_every_corner() -> None:
    """The extension equals 1 - IoU wherever all pixels are predicted with certainty: of four, all cases of a class."""
    for truth, guess in itertools.product(itertools.product((0.0, 1.0), repeat=4), repeat=2):
        t, p = torch.tensor([truth], dtype=torch.float64).T, torch.tensor([guess], dtype=torch.float64).T
        if not t.any():
            continue
        iou = (t * p).sum() / ((t + p) > 0).sum()
        torch.testing.assert_close(lovasz_by_class(p, t)[0], 1 - iou)


@pytest.mark.parametrize("make", [Dice, Lovasz])
def test_perfect_and_wrong(make: type[nn.Module]) -> None:
    label = torch.tensor([[[0, 1, 2, 2]]])
    right = 50.0 * nn.functional.one_hot(label, 3).movedim(-1, 1).double()
    assert make()(right, label) < 1e-9
    assert make()(-right, label) > 0.6


def test_images_are_averaged() -> None:
    logits, label = draw()
    label[1] = torch.where(label[1] == VOID, VOID, 3)
    for make in (Dice, Lovasz):
        each = [make()(logits[k : k + 1], label[k : k + 1]) for k in (0, 1)]
        torch.testing.assert_close(make(per_image=True)(logits, label), sum(each) / 2)
        half = label.clone()
        half[1] = VOID  # an image of void takes no part
        torch.testing.assert_close(make(per_image=True)(logits, half), each[0])


def test_what_cannot_be_is_refused() -> None:
    for make, message in (
        (lambda: Dice(smooth=-1), "smooth"),
        (lambda: Dice(per_image=1), "per_image must be True or False"),
        (lambda: Lovasz(class_weight=[-1.0]), "class_weight"),
        (lambda: Focal(gamma=-1), "gamma"),
        (lambda: Focal(alpha=0.25), "alpha balances"),
        (lambda: Focal(alpha=2, form="sigmoid"), "alpha"),
        (lambda: Focal(form="sigmod"), "did you mean 'sigmoid'"),
    ):
        with pytest.raises(UserError, match=message):
            make()
