"""Reading ahead of the network and writing behind it: the order, the memory, and the time that this saves."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict_kit import Nearest, labels_of, picture, predictor, write_image, write_video
from torch import Tensor

from segkd.workbench import outputs, reading
from segkd.workbench.predicting import carry_out, plan
from segkd.workbench.prediction import Prediction
from segkd.workbench.predictors import open_predictor
from segkd.workbench.reading import Picture, read_ahead
from segkd.workbench.sources import Source, find_sources

PAUSE = 0.04  # seconds of each stage


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for k in range(12):
        write_image(Path(f"photos/{k:02d}.png"), picture(k))


def test_the_order_is_kept_and_no_more_is_read_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(Path("photos/05a.avi"), [picture(k, (48, 64)) for k in range(9)], codec="MJPG")
    monkeypatch.setattr(reading, "BUDGET", 3 * picture(0).nbytes)
    inside, most, lock = [0], [0], threading.Lock()
    real = Source.image

    def watched(self: Source, *words: Any) -> Any:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        return real(self, *words)

    monkeypatch.setattr(Source, "image", watched)
    seen = []
    for read in read_ahead(find_sources("photos")):
        assert isinstance(read, Picture)
        if read.frame is None:
            inside[0] -= 1
            assert np.array_equal(read.image, picture(int(read.source.name)))
        seen.append((read.source.name, read.frame))
    stills = [(f"{k:02d}", None) for k in range(12)]
    assert seen == [*stills[:6], *(("05a", k) for k in range(9)), *stills[6:]]
    assert 2 <= most[0] <= 4, "three that wait, and the one that is looked at"


class Slow(Nearest):
    def _run(self, image: Tensor) -> Tensor:
        time.sleep(PAUSE)
        return super()._run(image)


def test_reading_and_writing_hide_behind_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three takes PAUSE: one after the other they take three times as long as the network alone."""
    image, encode = Source.image, outputs.KINDS["ids"].encode

    def slow_image(self: Source, *words: Any) -> Any:
        time.sleep(PAUSE)
        return image(self, *words)

    def slow_encode(seen: Prediction, style: Any) -> bytes:
        time.sleep(PAUSE)
        return encode(seen, style)

    monkeypatch.setattr(Source, "image", slow_image)
    monkeypatch.setitem(outputs.KINDS, "ids", outputs.Kind(".png", slow_encode))
    found = carry_out(plan("photos", write="ids", out="out"), open_predictor(Slow()))
    begin = time.perf_counter()
    model = Slow()
    for source in find_sources("photos"):
        seen = model.predict(_tensor(source.image()))
        slow_encode(_prediction(source, seen), None)
    plain = time.perf_counter() - begin
    assert found.seconds < 0.7 * plain, f"{found.seconds:.2f} s, one after the other {plain:.2f} s"


def _tensor(array: Any) -> Tensor:
    import torch

    return torch.from_numpy(array).permute(2, 0, 1)[None].contiguous()


def _prediction(source: Source, logits: Tensor) -> Prediction:
    label = logits.max(1).indices[0].numpy().astype(np.uint8)
    return Prediction(picture(0), label, (), ())


def test_results_are_right_when_much_is_under_way() -> None:
    carry_out(plan("photos", write="ids,overlay", out="out"), predictor(), batch=5)
    import cv2

    for k in range(12):
        stored = cv2.imread(f"out/ids/{k:02d}.png", cv2.IMREAD_UNCHANGED)
        assert np.array_equal(stored, labels_of(picture(k)))
