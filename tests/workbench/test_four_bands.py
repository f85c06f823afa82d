"""Images of four bands from a training to an int8 file, and what does not take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import segkd
from segkd.datasets import create
from segkd.errors import UserError
from segkd.workbench.settling import measured_bands

SIZE = (64, 96)


def write(root: Path, bands: int, count: int = 5) -> Path:
    draw = np.random.default_rng(bands)
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for k in range(count):
        label = draw.integers(0, 3, (4, 6)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        image = draw.integers(0, 50, (*SIZE, bands)) + 60 * label[..., None]
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{k}.png")
        Image.fromarray(label).save(root / "labels" / f"{k}.png")
    (root / "classes.txt").write_text("a\nb\nc\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(type="folder", root=str(write(tmp_path_factory.mktemp("four"), 4)), channels=4)


@pytest.fixture(scope="module")
def rgb(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(type="folder", root=str(write(tmp_path_factory.mktemp("rgb"), 3)))


OPTIONS: dict[str, Any] = dict(
    steps=2, batch=2, size=(64, 64), overrides=["engine.precision=fp32"], preflight=False, progress=False
)


@pytest.fixture(scope="module")
def run(four: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return segkd.train("fast_scnn", data=four, out=tmp_path_factory.mktemp("run") / "r", **OPTIONS)


@pytest.fixture(scope="module")
def teacher(rgb: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return segkd.train("fast_scnn", data=rgb, out=tmp_path_factory.mktemp("teacher") / "r", **OPTIONS)


def test_the_fourth_band_is_measured_of_the_training_images(four: dict[str, Any]) -> None:
    data = create("folder", **{key: value for key, value in four.items() if key != "type"}, split="train")
    values = np.stack([data[k].image[..., 3] for k in range(len(data))]) / 255
    found = measured_bands(data)
    np.testing.assert_allclose([found["mean"][0], found["std"][0]], [values.mean(), values.std()], atol=1e-4)


def test_a_student_of_four_bands_is_trained_scored_shipped_and_used(
    run: Any, four: dict[str, Any], tmp_path: Path
) -> None:
    assert run.config["model"]["network"]["bands"].keys() == {"mean", "std"}
    assert run.student.channels == 4
    exported = run.export(size=SIZE, out=tmp_path / "m.onnx")
    assert all(one.argmax_agreement == 1 for one in exported.parity)
    int8 = run.quantize(exported, out=tmp_path / "q.onnx", images=2)
    scores = run.evaluate(speed=False).miou
    assert segkd.evaluate(exported, data=run, speed=False).miou["m.onnx"] == pytest.approx(next(iter(scores.values())))
    assert 0 <= segkd.evaluate(int8, data=run, speed=False).miou["q.onnx"] <= 100
    image = Path(four["root"]) / "images" / "0.png"
    seen = segkd.predict(image, model=exported)
    assert seen.image.shape == (*SIZE, 4)
    pixels = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)[None]
    with torch.no_grad():
        want = run.student.predict(pixels).argmax(1)[0].numpy()
    assert (seen.label == want).mean() > 0.999
    segkd.predict(str(image), model=run, out=tmp_path / "seen", write="overlay,ids", progress=False)
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"overlay", "ids"}


def test_what_has_other_bands_is_refused_in_a_line(
    run: Any, teacher: Any, four: dict[str, Any], rgb: dict[str, Any], tmp_path: Path
) -> None:
    image = Path(rgb["root"]) / "images" / "0.png"
    tries: list[tuple[Any, str]] = [
        (lambda: segkd.predict(image, model=run), "has 3 bands, not the 4"),
        (lambda: segkd.predict(np.zeros((40, 40, 3), np.uint8), model=run), "has 3 bands, the model takes images of 4"),
        (lambda: segkd.evaluate(run, data=rgb, speed=False), "takes images of 4 bands, but those of .* have 3"),
        (lambda: segkd.evaluate(teacher, data=four, speed=False), "takes images of 3 bands, but those of .* have 4"),
        (
            lambda: segkd.distill("fast_scnn", teacher, data=four, out=tmp_path / "no", **OPTIONS),
            r"teacher FastSCNN takes images of 3 bands, and would get 4; .* model.teacher_bands=3",
        ),
    ]
    for attempt, message in tries:
        with pytest.raises(UserError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_teacher_of_rgb_may_see_the_first_three_bands(teacher: Any, four: dict[str, Any], tmp_path: Path) -> None:
    options = {**OPTIONS, "overrides": [*OPTIONS["overrides"], "model.teacher_bands=3"]}
    taught = segkd.distill("fast_scnn", teacher, data=four, out=tmp_path / "taught", **options)
    assert taught.student.channels == 4
    assert [line["step"] for line in taught.history if "val" in line] == [2]
