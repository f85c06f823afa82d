"""Scores are those that the official tools print, on sets made up here."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from layouts import write_ade20k, write_cityscapes
from numpy.typing import NDArray

from segkd.datasets.ade20k import ADE20K
from segkd.datasets.cityscapes import TRAINED_IDS, Cityscapes
from segkd.errors import UserError
from segkd.evaluation.inference import evaluate, instances_in
from segkd.evaluation.scores import ConfusionMatrix
from segkd.evaluation.together import Metrics

INSTANCE_IDS = (24, 25, 26, 27, 28, 31, 32, 33)


def blobs(rng: np.random.Generator, values: list[int], size: tuple[int, int], cell: int = 8) -> NDArray[Any]:
    """Patches of values drawn at random."""
    small = rng.choice(values, (size[0] // cell, size[1] // cell))
    return np.kron(small, np.ones((cell, cell), int)).astype(np.int64)


def official() -> ModuleType:
    return pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """Two images with every label id, objects, groups of objects (no number), and predictions of labelIds."""
    rng = np.random.default_rng(0)
    write_cityscapes(tmp_path)
    for number, image in enumerate(sorted((tmp_path / "leftImg8bit" / "val").glob("*/*.png"))):
        stem = str(image).replace("leftImg8bit", "gtFine").removesuffix(".png")
        label = blobs(rng, list(range(34)), (64, 128))
        objects = np.where(
            np.isin(label, [*INSTANCE_IDS, 29, 30]), label * 1000 + rng.integers(0, 3, label.shape), label
        )
        objects = np.where((rng.random(label.shape) < 0.1) & (objects > 1000), label, objects)  # no object of its own
        guess = np.where(rng.random(label.shape) < 0.5, label, blobs(rng, list(TRAINED_IDS), (64, 128), 4))
        guess = np.where(np.isin(guess, TRAINED_IDS), guess, 7)
        cv2.imwrite(f"{stem}_labelIds.png", label.astype(np.uint8))
        cv2.imwrite(f"{stem}_instanceIds.png", objects.astype(np.uint16))
        (tmp_path / "results").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "results" / f"{number}.png"), guess.astype(np.uint8))
    return tmp_path


def test_cityscapes_equals_its_scripts(cityscapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = official()
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # which numpy 2.4 has no more
    for name, value in {"quiet": True, "JSONOutput": False, "evalInstLevelScore": True}.items():
        monkeypatch.setattr(script.args, name, value)
    dataset = Cityscapes(cityscapes, "val")
    predicted = sorted((cityscapes / "results").glob("*.png"))
    want = script.evaluateImgLists([str(p) for p in predicted], [str(p.label) for p in dataset.pairs], script.args)

    metrics = Metrics(("miou", "category_iou", "iiou", "category_iiou"), dataset)
    train_ids = np.zeros(256, np.int64)
    train_ids[list(TRAINED_IDS)] = np.arange(19)
    for index, file in enumerate(predicted):
        guess = torch.from_numpy(train_ids[cv2.imread(str(file), cv2.IMREAD_UNCHANGED)])[None]
        label = torch.from_numpy(dataset[index].label.astype(np.int64))[None]
        objects = instances_in({"index": torch.tensor([index])}, dataset.instances_of)
        metrics.update(guess, label, instances=objects)
    for name, key, mean in (
        ("miou", "classScores", "averageScoreClasses"),
        ("category_iou", "categoryScores", "averageScoreCategories"),
        ("iiou", "classInstScores", "averageScoreInstClasses"),
        ("category_iiou", "categoryInstScores", "averageScoreInstCategories"),
    ):
        found = metrics.results()[name]
        assert found.value == pytest.approx(100 * want[mean], abs=1e-6), name
        assert found.parts is not None
        theirs = {part: 100 * value for part, value in want[key].items() if not math.isnan(value)}
        assert theirs == {part: pytest.approx(value, abs=1e-6) for part, value in found.parts.items()}, name
        assert len(theirs) == {"miou": 19, "category_iou": 7, "iiou": 8, "category_iiou": 2}[name]


def test_cityscapes_without_instance_files_says_so(tmp_path: Path) -> None:
    dataset = Cityscapes(write_cityscapes(tmp_path), "val")
    with pytest.raises(UserError, match=r"no instance file \w+_gtFine_instanceIds.png beside it"):
        dataset.instances_of(0)


def ade20k_reference(guess: list[NDArray[Any]], truth: list[NDArray[Any]]) -> tuple[float, float, NDArray[Any]]:
    """Pixel accuracy and mean IoU as the challenge's development kit defines them: stored ids, 0 is void.

    Both maps are set to 0 where the truth is 0; classes 1..150 are counted, and one in neither has IoU 0 / 0.
    """
    inter, union, right, labelled = np.zeros(150), np.zeros(150), 0, 0
    for p, t in zip(guess, truth, strict=True):
        p = p * (t > 0)
        right, labelled = right + int(((p == t) & (t > 0)).sum()), labelled + int((t > 0).sum())
        for k in range(1, 151):
            inter[k - 1] += ((p == k) & (t == k)).sum()
            union[k - 1] += ((p == k) | (t == k)).sum()
    with np.errstate(invalid="ignore"):
        iou = inter / union
    return right / labelled, float(np.nanmean(iou)), iou


def test_ade20k_is_scored_as_its_protocol_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    root = write_ade20k(tmp_path)
    truths, guesses = [], []
    for file in sorted((root / "ADEChallengeData2016" / "annotations" / "validation").glob("*.png")):
        truths.append(blobs(rng, list(range(120)), (64, 128)))
        guesses.append(np.where(rng.random((64, 128)) < 0.6, truths[-1], blobs(rng, list(range(1, 131)), (64, 128))))
        guesses[-1] = np.maximum(guesses[-1], 1)
        cv2.imwrite(str(file), truths[-1].astype(np.uint8))
    dataset = ADE20K(root, "val")
    matrix = ConfusionMatrix(150)
    for index, guess in enumerate(guesses):
        label = torch.from_numpy(dataset[index].label.astype(np.int64))
        matrix.update(torch.from_numpy(guess - 1)[None], label[None])
    accuracy, miou, iou = ade20k_reference(guesses, truths)
    found = matrix.result()
    assert found.pixel_accuracy == pytest.approx(100 * accuracy, abs=1e-9)
    assert found.miou == pytest.approx(100 * miou, abs=1e-9)
    np.testing.assert_allclose(found.iou, 100 * iou, atol=1e-9)
    assert np.isnan(iou).sum() >= 20


def test_voc_counts_background_and_leaves_borders_out() -> None:
    """As VOCevalseg counts: 255 in the truth is no pixel, all 21 with background are averaged."""
    rng = np.random.default_rng(2)
    truth = blobs(rng, list(range(21)), (64, 160), 4)
    guess = np.where(rng.random(truth.shape) < 0.7, truth, blobs(rng, list(range(21)), (64, 160), 4))
    truth[(rng.random(truth.shape) < 0.1) & (truth > 0)] = 255
    counts = np.zeros((21, 21))
    valid = truth < 255
    np.add.at(counts, (truth[valid], guess[valid]), 1)
    accuracies = [counts[j, j] / (counts[j].sum() + counts[:, j].sum() - counts[j, j]) for j in range(21)]
    batch = {"image": torch.from_numpy(guess)[None, None].expand(1, 3, -1, -1).to(torch.uint8)}
    batch["label"] = torch.from_numpy(truth)[None]

    def predict(image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(image[:, 0].long(), 21).permute(0, 3, 1, 2).float()

    found = evaluate(predict, [batch], 21)
    assert found.miou == pytest.approx(100 * np.mean(accuracies), abs=1e-9)
    np.testing.assert_allclose(found.iou, 100 * np.array(accuracies), atol=1e-9)
