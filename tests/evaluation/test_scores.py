from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segkd.errors import UserError
from segkd.evaluation.scores import ConfusionMatrix, Scores


def reference(prediction: np.ndarray, label: np.ndarray, classes: int) -> dict[str, object]:
    """The definitions, by sets of pixels, in float64."""
    valid = label != 255
    p, t = prediction[valid], label[valid]
    iou, recall = [], []
    for k in range(classes):
        inter, union = np.sum((p == k) & (t == k)), np.sum((p == k) | (t == k))
        iou.append(100 * inter / union if union else math.nan)
        recall.append(100 * inter / np.sum(t == k) if np.sum(t == k) else math.nan)
    return {
        "iou": iou,
        "miou": np.nanmean(iou),
        "mean_accuracy": np.nanmean(recall),
        "pixel_accuracy": 100 * np.mean(p == t),
        "pixels": int(valid.sum()),
    }


def random_maps(classes: int, seed: int = 0, shape: tuple[int, ...] = (6, 17, 23)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, shape)
    prediction = np.where(rng.random(shape) < 0.6, label, rng.integers(0, classes, shape))
    label[rng.random(shape) < 0.1] = 255
    return prediction, label


def scores_of(prediction: np.ndarray, label: np.ndarray, classes: int, batch: int = 6) -> Scores:
    matrix = ConfusionMatrix(classes)
    for i in range(0, len(label), batch):
        matrix.update(torch.from_numpy(prediction[i : i + batch]), torch.from_numpy(label[i : i + batch]))
    return matrix.result()


@pytest.mark.parametrize("classes", [2, 7, 150])
def test_equals_the_definitions(classes: int) -> None:
    prediction, label = random_maps(classes)
    got, want = scores_of(prediction, label, classes), reference(prediction, label, classes)
    np.testing.assert_allclose(got.iou, want["iou"], rtol=1e-12)
    for name in ("miou", "mean_accuracy", "pixel_accuracy", "pixels"):
        assert getattr(got, name) == pytest.approx(want[name], rel=1e-12)


@pytest.mark.parametrize("count_void", [False, True])
@pytest.mark.parametrize("void_output", [False, True])
def test_void_counted_or_predicted(count_void: bool, void_output: bool) -> None:
    """Against sets: what is predicted on void is a false positive, void predicted on a class is a miss of it."""
    classes, rng = 4, np.random.default_rng(1)
    label = rng.integers(0, classes + 1, (3, 9, 11))  # the last is void
    prediction = np.where(rng.random(label.shape) < 0.6, label, rng.integers(0, classes + 1, label.shape))
    if not void_output:
        prediction = np.where(prediction == classes, 0, prediction)
    void = label == classes
    matrix = ConfusionMatrix(classes, count_void=count_void, void_output=void_output)
    matrix.update(torch.from_numpy(prediction), torch.from_numpy(np.where(void, 255, label)))
    got = matrix.result()
    seen = prediction if count_void else np.where(void, -1, prediction)
    want = [100 * (m & g).sum() / (m | g).sum() for k in range(classes) for m, g in [(label == k, seen == k)]]
    np.testing.assert_allclose(got.iou, want, rtol=1e-12)
    assert got.miou == pytest.approx(np.mean(want))
    assert got.pixels == (~void).sum()
    assert got.pixel_accuracy == pytest.approx(100 * (prediction == label)[~void].mean())


@pytest.mark.parametrize("classes", [2, 5, 19])
@pytest.mark.parametrize("extra", [False, True])
def test_counts_are_those_of_a_loop_over_pixels(classes: int, extra: bool) -> None:
    """Also with a row and a column for void, and for the small integers that files and argmax give."""
    prediction, label = random_maps(classes, seed=classes)
    want = [[0] * (classes + extra) for _ in range(classes + extra)]
    for p, t in zip(prediction.flat, label.flat, strict=True):
        if t != 255 or extra:
            want[classes if t == 255 else t][p] += 1
    matrix = ConfusionMatrix(classes, count_void=extra)
    matrix.update(torch.from_numpy(prediction.astype(np.int32)), torch.from_numpy(label.astype(np.uint8)))
    assert matrix.counts.tolist() == want


def test_a_batch_of_nothing_but_void_adds_nothing() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 255))
    assert matrix.counts.tolist() == [[0] * 3] * 3


def test_row_is_truth() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 0, 0]]]))
    assert matrix.counts.tolist() == [[1, 2], [0, 0]]
    assert matrix.counts.dtype == torch.int64


def test_absent_class_is_left_out_and_a_hallucinated_one_counts() -> None:
    label = np.array([[[0, 0, 1, 1]]])
    absent = scores_of(np.array([[[0, 0, 1, 1]]]), label, 3)
    assert absent.miou == 100
    assert math.isnan(absent.iou[2])
    invented = scores_of(np.array([[[0, 2, 1, 1]]]), label, 3)
    assert invented.iou == (50.0, 100.0, 0.0)
    assert invented.miou == 50
    assert invented.mean_accuracy == 75  # class 2 has no pixel to be accurate on


def test_void_does_not_count() -> None:
    got = scores_of(np.array([[[0, 1, 0, 1]]]), np.array([[[0, 1, 255, 255]]]), 2)
    assert (got.miou, got.pixel_accuracy, got.pixels) == (100, 100, 2)


def test_only_void_is_nan_not_a_number() -> None:
    got = scores_of(np.zeros((1, 2, 2), int), np.full((1, 2, 2), 255), 3)
    assert all(math.isnan(v) for v in (got.miou, got.mean_accuracy, got.pixel_accuracy, *got.iou))


def test_whole_set_not_mean_of_images() -> None:
    # image 1: class 1 is one pixel, missed; image 2: class 1 is everything, found
    label = np.array([[[0, 0, 0, 1]], [[1, 1, 1, 1]]])
    prediction = np.array([[[0, 0, 0, 0]], [[1, 1, 1, 1]]])
    per_image = np.mean([reference(p, t, 2)["miou"] for p, t in zip(prediction, label, strict=True)])
    got = scores_of(prediction, label, 2, batch=1)
    assert got == scores_of(prediction, label, 2, batch=2)
    assert got.miou == pytest.approx(100 * (3 / 4 + 4 / 5) / 2)
    assert abs(got.miou - per_image) > 5


def test_merge_is_the_same_as_one_pass() -> None:
    prediction, label = random_maps(5)
    parts = []
    for half in (slice(0, 2), slice(2, 6)):
        matrix = ConfusionMatrix(5)
        matrix.update(torch.from_numpy(prediction[half]), torch.from_numpy(label[half]))
        parts.append(matrix)
    parts[0].merge(parts[1])
    parts[0].all_reduce()  # one process: nothing to add
    assert parts[0].result() == scores_of(prediction, label, 5)
    with pytest.raises(ValueError, match="merge"):
        parts[0].merge(ConfusionMatrix(4))


def test_all_reduce_keeps_the_sum_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = ConfusionMatrix(2)
    matrix.counts[0, 0] = 3
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: counts.add_(4))
    matrix.all_reduce()
    assert matrix.counts.tolist() == [[7, 4], [4, 4]]


def test_counts_do_not_saturate() -> None:
    matrix = ConfusionMatrix(2)
    matrix.counts[0, 0] = 2**40
    matrix.update(torch.zeros(1, 1, 3, dtype=torch.long), torch.zeros(1, 1, 3, dtype=torch.long))
    assert matrix.result().pixels == 2**40 + 3


@pytest.mark.parametrize(
    ("prediction", "label", "name"), [(3, 0, "prediction 3"), (0, 3, "label 3"), (0, -1, "label -1")]
)
def test_values_outside_the_classes(prediction: int, label: int, name: str) -> None:
    with pytest.raises(UserError, match=name):
        ConfusionMatrix(3).update(torch.tensor([[[prediction]]]), torch.tensor([[[label]]]))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        ConfusionMatrix(3).update(torch.zeros(1, 2, 3), torch.zeros(1, 3, 2))


def test_as_dict() -> None:
    got = scores_of(np.array([[[0, 1]]]), np.array([[[0, 1]]]), 2).as_dict(["road", "car"])
    assert got["iou"] == {"road": 100.0, "car": 100.0}
    assert got["miou"] == 100
    with pytest.raises(UserError, match="1 class names"):
        scores_of(np.array([[[0, 1]]]), np.array([[[0, 1]]]), 2).as_dict(["road"])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("void_output", [False, True])
@pytest.mark.parametrize("count_void", [False, True])
def test_counts_are_those_of_every_pixel_for_itself(dtype: torch.dtype, void_output: bool, count_void: bool) -> None:
    rng = np.random.default_rng(0)
    label = rng.choice([0, 1, 2, 3, 255], (2, 20, 30))
    guess = rng.integers(0, 4 + void_output, label.shape)
    matrix = ConfusionMatrix(4, count_void=count_void, void_output=void_output)
    matrix.update(torch.from_numpy(guess).to(dtype), torch.from_numpy(label).to(dtype))
    want = np.zeros(matrix.counts.shape, np.int64)
    for truth, found in zip(label.ravel(), guess.ravel(), strict=True):
        if truth != 255:
            want[truth, found] += 1
        elif count_void:
            want[4, found] += 1
    np.testing.assert_array_equal(matrix.counts.numpy(), want)


def test_what_is_predicted_at_void_may_be_anything() -> None:
    label = torch.tensor([[[0, 1, 255, 255]]])
    for odd in (255, 300, -7):
        matrix = ConfusionMatrix(2)
        matrix.update(torch.tensor([[[0, 0, odd, 1]]]), label)
        assert matrix.counts.tolist() == [[1, 0], [1, 0]]
        with pytest.raises(UserError, match=f"prediction {odd} is outside the 2 classes"):
            matrix.update(torch.tensor([[[odd, 0, 0, 1]]]), label)
    with pytest.raises(UserError, match="label 300 is outside"):
        ConfusionMatrix(2).update(torch.zeros_like(label), torch.full_like(label, 300))
    many = ConfusionMatrix(400, ignore_index=-1)
    many.update(torch.tensor([[[399, 2, 3]]]), torch.tensor([[[399, -1, 2]]]))
    assert int(many.counts[399, 399]) == int(many.counts[2, 3]) == 1
    assert int(many.counts.sum()) == 2
    void = ConfusionMatrix(3, ignore_index=-1, count_void=True)
    void.update(torch.tensor([[[0, 2, 1]]]), torch.tensor([[[0, -1, -1]]]))
    assert void.counts.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]
