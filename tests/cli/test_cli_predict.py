"""``segkd predict``: words, exit codes and lines; what it computes is tested in tests/workbench."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_kit import Refused, Run

from segkd.workbench.zoo import find_release


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """photos/a.png, and photos/b.png without its end."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    data = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(data[: len(data) // 2])
    return folder


def test_a_bad_file_stops_or_is_left_out(segkd: Run, refused: Refused, photos: Path) -> None:
    line = refused("predict", "photos", "--json", "shares.json")
    assert line == (
        "segkd predict: error: photos/b.png: cannot be read as image file; it is damaged or cut short, fetch it again"
    )
    assert [path.name for path in Path("photos_segmented").iterdir()] == ["a.png"]
    assert not Path("shares.json").exists()
    assert "photos_segmented/a.png is there already" in refused("predict", "photos")
    left = segkd("predict", "photos", "--skip-bad", "--skip-done")
    assert left.code == 0
    assert left.err.startswith("left out photos/b.png: cannot be read as image file")
    assert "1 were there, 1 left out" in left.out
    assert segkd("predict", "photos", "--skip-bad", "--strict", "--force", "--json", "shares.json").code == 1
    said = json.loads(Path("shares.json").read_text())
    assert [row["source"] for row in said["results"]] == ["photos/a.png"]
    assert list(said["bad"]) == ["photos/b.png"]
    assert sum(said["shares"].values()) == pytest.approx(100, abs=0.01)


def test_an_image_comes_in_by_standard_input(
    segkd: Run, refused: Refused, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert segkd("predict", "photos/a.png", "--out", "named.png").code == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((photos / "a.png").read_bytes())))
    assert segkd("predict", "-").code == 0
    assert Path("stdin_segmented.png").read_bytes() == Path("named.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "standard input is empty" in refused("predict", "-", "--force")


def test_weights_and_runs_are_models_too(segkd: Run, trained: Path, photos: Path) -> None:
    for number, model in enumerate(
        (trained, trained / "student_best.pth", f"fast_scnn@{trained / 'student_best.pth'}")
    ):
        words = ["--model", model, "--device", "cpu", "--write", "ids", "--out", f"{number}.png"]
        result = segkd("predict", "photos/a.png", *words)
        assert result.code == 0, result.err
        assert ("class 1" in result.out) == (number == 2), "a network alone doesn't say its classes"
    assert Path("0.png").read_bytes() == Path("1.png").read_bytes() == Path("2.png").read_bytes()
    release = find_release("fast_scnn_camvid")
    for number, model in enumerate(("fast_scnn_camvid", release, release / "student_int8.onnx"), 10):
        assert segkd("predict", "photos/a.png", "--model", model, "--out", f"{number}.png").code == 0
    assert Path("10.png").read_bytes() == Path("11.png").read_bytes() == Path("12.png").read_bytes()
    named = segkd("predict", "photos/a.png", *words[:-1], "3.png", "--classes", "camvid")
    assert "class 1" not in named.out
    for words in (["--flip", "--scales", "1,1.5"], ["--window", "32x32", "--stride", "32x32"]):
        assert (
            segkd(
                "predict", "photos/a.png", "--model", trained, "--write", "ids", "--out", "4.png", "--force", *words
            ).code
            == 0
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda:9"], "torch sees 0 GPUs here"),
        (["--device", "gpu"], "'gpu' is no device"),
        (["--model", "fast_scnn_camvod"], "did you mean 'fast_scnn_camvid'"),
        (["--model", "nothing.onnx"], "no such ONNX file: nothing.onnx"),
        (["--model", "photos/a.png"], "photos/a.png"),
        (["--write", "mask"], "nothing of the kind 'mask' is written"),
        (["--write", "cityscapes"], "Cityscapes has no class 'pavement'"),
        (["--classes", "nothing.txt"], "cannot read class names from nothing.txt"),
        (["--fps", "0"], "frames per second"),
        (["--batch", "0"], "integer from 1 up"),
        (["--force", "--skip-done"], "not allowed with"),
        (["--stride", "32x32"], "window"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    refused: Refused, photos: Path, words: list[str], message: str
) -> None:
    if "cuda:9" in words and __import__("torch").cuda.device_count():
        pytest.skip("there are GPUs")
    assert message in refused("predict", "photos/a.png", *words)
    assert sorted(path.name for path in Path().iterdir()) == ["photos"]
