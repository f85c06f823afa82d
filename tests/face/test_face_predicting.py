"""``segkd.predict``: one image gives a prediction, anything else an iterator, ``out=`` files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segkd
from segkd.errors import UserError
from segkd.workbench.predicting import Predicted
from segkd.workbench.prediction import Prediction

MODEL = "fast_scnn_camvid"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "in").mkdir(parents=True)
    for k, name in enumerate(("a.png", "in/b.png", "in/c.png")):
        cv2.imwrite(f"photos/{name}", np.random.default_rng(k).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    return Path("photos")


def test_anything_but_one_image_gives_predictions_one_by_one(photos: Path) -> None:
    one = segkd.predict("photos/a.png", scores=True)
    assert isinstance(one, Prediction)
    assert (one.source, one.frame, one.label.dtype, one.label.shape) == ("photos/a.png", None, np.uint8, (40, 60))
    assert one.scores is not None
    assert one.scores.shape == (11, 40, 60)
    assert np.abs(one.scores.astype(float).sum(0) - 1).max() < 0.01
    assert (one.scores.argmax(0) == one.label).mean() > 0.99, "but for what half precision makes equal"
    found = segkd.predict(photos)
    assert isinstance(found, Iterator)
    seen = list(found)
    assert [each.source for each in seen] == ["photos/a.png", "photos/in/b.png", "photos/in/c.png"]
    assert np.array_equal(seen[0].label, one.label)
    assert seen[0].scores is None
    (again,) = segkd.predict([photos / "a.png"])
    assert np.array_equal(again.label, one.label)


def test_with_out_the_files_are_there_when_it_returns(photos: Path) -> None:
    found = segkd.predict(photos, out="seen", write=["ids", "overlay"], json="shares.json", batch=2, progress=False)
    assert isinstance(found, Predicted)
    assert (found.images, found.files) == (3, 6)
    stored = cv2.imread("seen/ids/in/c.png", cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, segkd.predict("photos/in/c.png").label)


def test_a_bad_image_stops_the_iterator_or_is_left_out_with_a_warning(photos: Path) -> None:
    Path("photos/in/b.png").write_bytes(b"")
    seen = segkd.predict(photos)
    assert next(seen).source == "photos/a.png"
    with pytest.raises(UserError, match=r"photos/in/b\.png"):
        next(seen)
    with pytest.warns(UserWarning, match=r"left out: photos/in/b\.png"):
        assert [each.source for each in segkd.predict(photos, skip_bad=True)] == ["photos/a.png", "photos/in/c.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (dict(legend="file"), "legend= is about what is written: say where to, out="),
        (dict(write="ids"), "write= is about what is written"),
        (dict(modell=MODEL), "segkd.predict has no argument 'modell'; did you mean 'model'"),
        (dict(model=3), "a model is a network, a file, a run folder or a name, got int"),
        (dict(stride=(64, 64)), "give a window, too"),
    ],
)
def test_mistakes_are_named(photos: Path, words: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        segkd.predict("photos/a.png", **words)
