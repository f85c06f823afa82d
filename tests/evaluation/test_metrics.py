"""Metrics by name against their definitions, scikit-learn, torchmetrics and scipy."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from segkd.errors import UserError
from segkd.evaluation.boundaries import contour_f1, inner_boundary, is_mixed
from segkd.evaluation.calibration import BINS
from segkd.evaluation.metric import METRICS, check_names
from segkd.evaluation.scores import ConfusionMatrix
from segkd.evaluation.together import Metrics

NAMES = ["a", "b", "c", "d", "e"]
DATA = SimpleNamespace(class_names=NAMES, num_classes=5)


def maps(seed: int = 0, void: float = 0.1) -> tuple[Tensor, Tensor]:
    """Predictions and labels (3, 24, 36) of patches; class 4 is never labelled, class 3 never predicted."""
    rng = np.random.default_rng(seed)
    label = np.kron(rng.integers(0, 4, (3, 4, 6)), np.ones((1, 6, 6), int))
    guess = np.where(rng.random(label.shape) < 0.7, label, rng.integers(0, 5, label.shape))
    guess[guess == 3] = 0
    label[rng.random(label.shape) < void] = 255
    return torch.from_numpy(guess), torch.from_numpy(label)


def result(name: str, guess: Tensor, label: Tensor, **seen: Tensor) -> Any:
    metrics = Metrics([name], DATA)
    metrics.update(guess[:2], label[:2], **{k: v[:2] for k, v in seen.items()})
    metrics.update(guess[2:], label[2:], **{k: v[2:] for k, v in seen.items()})
    return metrics.results()[name]


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "miou"])
def test_values_of_classes_equal_scikit_learn(name: str) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    function = {"precision": sklearn.precision_score, "recall": sklearn.recall_score, "f1": sklearn.f1_score,
                "miou": sklearn.jaccard_score}[name]  # fmt: skip
    guess, label = maps()
    valid = label != 255
    want = function(label[valid], guess[valid], labels=range(5), average=None, zero_division=0)
    parts = list(result(name, guess, label).parts.values())
    if name == "recall":  # of a class that is nowhere labelled there is none
        assert math.isnan(parts.pop())
        want = want[:-1]
    assert parts == pytest.approx(list(100 * want), abs=1e-9)


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "miou"])
def test_values_of_classes_equal_torchmetrics(name: str) -> None:
    functional = pytest.importorskip("torchmetrics.functional.classification")
    function = {"precision": functional.multiclass_precision, "recall": functional.multiclass_recall,
                "f1": functional.multiclass_f1_score, "miou": functional.multiclass_jaccard_index}[name]  # fmt: skip
    guess, label = maps(1)
    want = function(guess, label, num_classes=5, average="none", ignore_index=255).tolist()
    parts = list(result(name, guess, label).parts.values())
    if name == "recall":
        assert math.isnan(parts.pop())
        want.pop()
    assert parts == pytest.approx([100 * value for value in want], abs=1e-4)


def test_means_and_shares_by_their_definitions() -> None:
    guess, label = maps(2)
    valid = label != 255
    p, t = guess[valid].numpy(), label[valid].numpy()
    iou = [((p == k) & (t == k)).sum() / ((p == k) | (t == k)).sum() for k in range(5)]
    recall = [((p == k) & (t == k)).sum() / (t == k).sum() for k in range(4)]
    share = [(t == k).mean() for k in range(5)]
    want = {"miou": np.mean(iou), "macc": np.mean(recall), "recall": np.mean(recall), "aacc": (p == t).mean(),
            "fwiou": np.dot(share, iou)}  # fmt: skip
    for name, value in want.items():
        assert result(name, guess, label).value == pytest.approx(100 * value, abs=1e-9), name


def test_a_perfect_prediction_has_100_everywhere_and_no_class_more() -> None:
    _, label = maps(3, void=0)
    every = [name for name in METRICS.names() if name not in ("ece", "iiou", "category_iou", "category_iiou")]
    metrics = Metrics(every, DATA)
    metrics.update(label, label)
    for name, found in metrics.results().items():
        assert found.value == pytest.approx(100), name
        assert found.parts is None or math.isnan(found.parts["e"]), name


def reference_boundary(mask: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Pixels that an erosion by a square takes, repeated; beyond the image there is no mask."""
    kept = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)
    found: NDArray[np.bool_] = mask & ~kept
    return found


def shapes(seed: int, size: tuple[int, int] = (90, 120)) -> NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    smooth = np.stack([ndimage.gaussian_filter(rng.standard_normal(size), 6) for _ in range(4)])
    return smooth.argmax(0).astype(np.int32)


def test_boundary_iou_is_that_of_eroded_masks() -> None:
    truth, guess = shapes(0), shapes(0)
    guess[20:50, 30:70] = shapes(5)[20:50, 30:70]
    distance = round(0.02 * math.hypot(90, 120))
    assert distance == 3
    want = []
    for k in range(4):
        a, b = (reference_boundary(x == k, distance) for x in (truth, guess))
        want.append(100 * (a & b).sum() / (a | b).sum())
    found = result("boundary_iou", torch.from_numpy(guess)[None], torch.from_numpy(truth)[None])
    assert list(found.parts.values())[:4] == pytest.approx(want, abs=1e-9)
    assert found.value == pytest.approx(np.mean(want))
    assert found.value < result("miou", torch.from_numpy(guess)[None], torch.from_numpy(truth)[None]).value


def test_a_border_with_void_is_no_boundary() -> None:
    truth = np.zeros((9, 9), np.int32)
    truth[:, 5:] = 1
    void = np.zeros((9, 9), bool)
    void[:, 4:6] = True
    assert not is_mixed(truth, void, 1).any()
    assert is_mixed(truth, void, 3)[:, 3].all()  # 1 is within 3 of column 3, behind the void
    assert not is_mixed(truth, void, 3)[:, 2].any()
    inner = inner_boundary(truth, void, 1)
    assert inner[0, :4].all()  # the image's border is one
    assert not inner[1:-1, 1:4].any()
    assert not inner[:, 4:6].any()


def test_boundary_f1_is_that_of_all_pairs_of_points() -> None:
    truth, guess = shapes(1), np.roll(shapes(1), 1, axis=1)
    guess[:30] = shapes(2)[:30]
    tolerance = 0.0075 * math.hypot(90, 120)
    scores = []
    for k in range(4):
        ends = []
        for x in (truth, guess):
            near = ndimage.maximum_filter(x, 3, mode="nearest") != ndimage.minimum_filter(x, 3, mode="nearest")
            ends.append(np.argwhere(near & (x == k)).astype(float))
        apart = np.linalg.norm(ends[0][:, None] - ends[1][None], axis=-1) <= tolerance
        recall, precision = apart.any(1).mean(), apart.any(0).mean()
        scores.append(100 * 2 * precision * recall / (precision + recall))
    found = result("boundary_f1", torch.from_numpy(guess)[None], torch.from_numpy(truth)[None])
    assert list(found.parts.values())[:4] == pytest.approx(scores, abs=1e-6)


def test_contours_in_one_alone_have_nothing_and_none_no_score() -> None:
    none, some = np.zeros((8, 8), bool), np.eye(8, dtype=bool)
    assert math.isnan(contour_f1(none, none, 1.0))
    assert contour_f1(none, some, 1.0) == contour_f1(some, none, 1.0) == 0
    assert contour_f1(some, np.roll(some, 1, 1), 1.0) > 0.9
    assert contour_f1(some[:, ::-1].copy(), some, 0.5) == 0


def test_calibration_error_equals_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional.classification")
    guess, label = maps(4)
    logits = torch.randn(3, 5, 24, 36, generator=torch.Generator().manual_seed(0)) * 2
    probability = logits.softmax(1)
    sure, guess = probability.max(1)
    want = functional.multiclass_calibration_error(
        probability, label, num_classes=5, n_bins=BINS, norm="l1", ignore_index=255
    )
    assert result("ece", guess, label, confidence=sure).value == pytest.approx(100 * float(want), abs=1e-3)
    certain = torch.ones(3, 24, 36)
    right = (guess == label)[label != 255].double().mean()
    assert result("ece", guess, label, confidence=certain).value == pytest.approx(100 * (1 - float(right)))


def test_resetting_forgets_and_two_halves_are_one_whole() -> None:
    guess, label = maps(5)
    every = ["miou", "boundary_iou", "boundary_f1", "ece"]
    metrics, sure = Metrics(every, DATA), torch.rand(3, 24, 36)
    metrics.update(label.clamp(max=4), label, confidence=sure)
    metrics.reset()
    metrics.update(guess, label, confidence=sure)
    want = {name: result(name, guess, label, **({"confidence": sure} if name == "ece" else {})) for name in every}
    for name, one in metrics.results().items():
        assert one.value == pytest.approx(want[name].value), name
        assert one.parts == pytest.approx(want[name].parts, nan_ok=True) if one.parts else want[name].parts is None
    assert metrics.compute()["boundary IoU"] == want["boundary_iou"].value
    assert metrics.per_class()[:4] == pytest.approx(list(want["miou"].parts.values())[:4])
    assert metrics.falling() == ["ECE"]


def test_void_that_is_predicted_or_counted_is_in_every_metric() -> None:
    matrix = ConfusionMatrix(5, count_void=True, void_output=True)
    metrics = Metrics(["precision", "recall", "f1", "fwiou"], DATA, matrix)
    metrics.update(torch.tensor([[[0, 0, 5, 1]]]), torch.tensor([[[0, 255, 0, 1]]]))
    found = {name: one.value for name, one in metrics.results().items()}
    assert found["precision"] == pytest.approx(75)  # one of two, one of one
    assert found["recall"] == pytest.approx(75)
    assert found["f1"] == pytest.approx(100 * (0.5 + 1) / 2)
    assert found["fwiou"] == pytest.approx(100 * (2 / 3 / 3 + 1 / 3))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["mIoU"], "unknown metric 'mIoU'; did you mean 'miou'"),
        (["boundary"], "did you mean 'boundary_"),
        (["f1", "f1"], "'f1' is named twice"),
    ],
)
def test_names_that_are_none(names: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_names(names)


@pytest.mark.parametrize("name", ["category_iou", "iiou", "category_iiou"])
def test_a_metric_that_the_data_cannot_give(name: str) -> None:
    with pytest.raises(
        UserError, match=rf"the metric {name} needs .*, and SimpleNamespace has none \(cityscapes has\)"
    ):
        Metrics([name], DATA)


def test_all_processes_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that saw nothing right: every count of this one's is halved against its sums."""
    guess, label = maps(6)
    every = ["miou", "boundary_iou", "boundary_f1", "ece"]
    metrics = Metrics(every, DATA)
    metrics.update(guess, label, confidence=torch.rand(3, 24, 36))
    before = {name: one.value for name, one in metrics.results().items()}
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    summed: list[Tensor] = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: summed.append(counts.mul_(2)))
    after = metrics.compute()
    assert list(after.values()) == pytest.approx(list(before.values()))  # twice the same is the same
    assert len(summed) == 4  # the matrix, and what the three others have seen
