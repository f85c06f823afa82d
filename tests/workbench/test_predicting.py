"""Images and videos segmented and written: every kind of result read back by other libraries, and what stays undone."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from predict_kit import (
    LEVELS,
    NAMES,
    PALETTE,
    Nearest,
    labels_of,
    listed,
    picture,
    predictor,
    read_video,
    write_image,
    write_video,
)
from torch import Tensor

from segkd.datasets.cityscapes import Cityscapes
from segkd.errors import UserError
from segkd.workbench.predicting import Predicted, Views, carry_out, plan
from segkd.workbench.predictors import open_predictor


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def predict(given: Any, levels: Sequence[int] = LEVELS, model: Any = None, **words: Any) -> Predicted:
    work = {
        key: words.pop(key)
        for key in ("batch", "views", "frames", "fps", "skip_bad", "upright", "white")
        if key in words
    }
    return carry_out(plan(given, **words), model or predictor(levels), **work)


def read_pillow(path: Path | str) -> np.ndarray[Any, Any]:
    with Image.open(path) as opened:
        return np.array(opened)


def photos(count: int = 5) -> list[np.ndarray[Any, Any]]:
    """photos/000.png and on; of two sizes."""
    images = [picture(k, (40, 56) if k % 3 else (30, 33)) for k in range(count)]
    for k, image in enumerate(images):
        write_image(Path(f"photos/{k // 2}/{k:03d}.png"), image)
    return images


def test_every_kind_of_result_says_the_same_classes() -> None:
    images = photos()
    found = predict("photos", write="overlay,colours,ids,soft", out="out", batch=2, alpha=0.25, legend="file")
    assert listed(Path("out/overlay")) == ["0/000.png", "0/001.png", "1/002.png", "1/003.png", "2/004.png"]
    assert found.files == 21 == len(listed(Path("out")))
    for k, image in enumerate(images):
        stem, expected = f"{k // 2}/{k:03d}", labels_of(image)
        assert np.array_equal(read_pillow(f"out/ids/{stem}.png"), expected)
        with Image.open(f"out/colours/{stem}.png") as colours:
            assert colours.mode == "P"
            assert np.array_equal(np.array(colours), expected), "the palette PNG holds the classes"
            assert np.array_equal(np.array(colours.convert("RGB")), np.array(PALETTE)[expected])
        mixed = 0.25 * np.array(PALETTE)[expected] + 0.75 * image
        assert np.abs(read_pillow(f"out/overlay/{stem}.png") - mixed).max() <= 0.5
        with np.load(f"out/soft/{stem}.npz") as soft:
            scores = soft["scores"]
            assert list(soft["class_names"]) == list(NAMES)
        distance = -np.abs(image[..., 0].astype(float) - np.array(LEVELS)[:, None, None]) / 16
        softmax = np.exp(distance) / np.exp(distance).sum(0)
        assert scores.dtype == np.float16
        assert np.abs(scores - softmax).max() < 1e-3
    pixels = np.concatenate([labels_of(image).ravel() for image in images])
    for share in found.shares:
        assert share.percent == pytest.approx(100 * (pixels == NAMES.index(share.name)).mean())


def test_more_classes_than_a_byte_holds_get_16_bits() -> None:
    levels = [k * 0.85 for k in range(300)]
    image = picture(1)
    write_image(Path("a.png"), image)
    predict("a.png", levels, write="ids,colours", out="out", model=predictor(levels, none=()))
    stored = cv2.imread("out/ids/a.png", cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert np.array_equal(stored, labels_of(image, levels))
    assert read_pillow("out/colours/a.png").shape == (*image.shape[:2], 3)


def test_cityscapes_gets_its_label_ids_under_its_names() -> None:
    names = tuple(reversed(Cityscapes.class_names))
    levels = [13 * k for k in range(19)]
    image = picture(4)
    write_image(Path("test/berlin/berlin_000000_000019_leftImg8bit.png"), image)
    model = predictor(levels, class_names=names)
    assert model.classes.palette != PALETTE
    predict("test", write="cityscapes", out="server", model=model)
    assert listed(Path("server")) == ["berlin/berlin_000000_000019_leftImg8bit.png"]
    official = {"road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
                "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
                "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33}  # fmt: skip
    expected = np.array([official[name] for name in names])[labels_of(image, levels)]
    assert np.array_equal(read_pillow("server/berlin/berlin_000000_000019_leftImg8bit.png"), expected)
    with pytest.raises(UserError, match="Cityscapes has no class 'black'"):
        predict("test", write="cityscapes", out="no")
    with pytest.raises(UserError, match="say --classes cityscapes"):
        predict("test", write="cityscapes", out="no", model=predictor(levels, none=()))
    named = open_predictor(Nearest(levels), classes="cityscapes")
    assert named.classes.names == Cityscapes.class_names
    with pytest.raises(UserError, match="the model has 4 classes, cityscapes names 19"):
        open_predictor(Nearest(), classes="cityscapes")
    assert not Path("no").exists()


def test_neighbours_of_one_size_go_through_the_model_together() -> None:
    images = photos(7)  # sizes: small large large small large large small
    model = predictor()
    predict("photos", write="ids", out="out", batch=4, model=model)
    assert model.runtime.batches == [1, 2, 1, 2, 1]  # type: ignore[attr-defined]
    assert [np.array_equal(read_pillow(f"out/{k // 2}/{k:03d}.png"), labels_of(images[k])) for k in range(7)] == [
        True
    ] * 7


class Labels(Nearest):
    """A file that takes the strongest class itself."""

    output = "labels"

    def _run(self, image: Tensor) -> Tensor:
        return super()._run(image).max(1).indices.to(torch.uint8)


def test_a_file_that_gives_labels_alone_is_asked_for_no_more() -> None:
    image = photos(1)[0]
    model = open_predictor(Labels())
    predict("photos", write="ids", out="ids.png/", model=model)
    assert np.array_equal(read_pillow("ids.png/0/000.png"), labels_of(image))
    for words in (dict(write="soft"), dict(views=Views(flip=True)), dict(views=Views(window=(32, 32)))):
        with pytest.raises(UserError, match="the file gives labels alone"):
            predict("photos", out="no", model=model, **words)


def test_tiny_images_are_segmented_at_their_own_size() -> None:
    for size in ((1, 1), (1, 50), (50, 3)):
        image = picture(2, size)
        write_image(Path("tiny.png"), image)
        predict("tiny.png", write="ids", out="ids.png", force=True)
        assert np.array_equal(read_pillow("ids.png"), labels_of(image))


def test_a_video_keeps_its_rate_its_size_and_its_frames() -> None:
    frames = [np.full((48, 64, 3), level, np.uint8) for level in (20, 90, 160, 230) * 6]
    write_video(Path("drive.mp4"), frames, 29.97)
    found = predict("drive.mp4", write="colours,ids", out="out", batch=5, json="shares.json")
    rate, seen = read_video(Path("out/colours/drive.mp4"))
    assert rate == pytest.approx(29.97, abs=0.01)
    assert len(seen) == 24
    for k, frame in enumerate(seen):
        assert frame.shape == (48, 64, 3)
        assert np.abs(frame.astype(int) - PALETTE[k % 4]).mean() < 12, "but for the codec's losses"
        assert (read_pillow(f"out/ids/drive/{k:06d}.png") == k % 4).all()
    assert (found.videos, found.frames, found.notes) == (1, 24, [])
    (row,) = json.loads(Path("shares.json").read_text())["results"]
    assert row["shares"] == dict.fromkeys(NAMES, 25.0)
    assert (row["frames"], row["size"], row["files"]) == (24, [48, 64], ["out/colours/drive.mp4", "out/ids/drive"])
    assert predict("drive.mp4", out="first.avi", frames=3, fps=5).frames == 3
    assert read_video(Path("first.avi"))[0] == 5


def test_odd_sides_of_a_video_are_filled_up_by_a_pixel() -> None:
    write_video(Path("odd.avi"), [picture(1, (47, 63))] * 2, codec="MJPG")  # OpenCV itself cuts the last pixel
    frame = read_video(Path("odd.avi"))[1][0]
    predict("odd.avi", out="out.mp4")
    assert read_video(Path("out.mp4"))[1][0].shape == (
        frame.shape[0] + frame.shape[0] % 2,
        frame.shape[1] + frame.shape[1] % 2,
        3,
    )


def test_a_legend_stands_beside_each_overlay() -> None:
    image = picture(1, (120, 90))
    write_image(Path("a.png"), image)
    write_video(Path("drive.mp4"), [image] * 3)
    predict(["a.png", "drive.mp4"], out="out", legend="beside", alpha=0)
    overlay = read_pillow("out/a.png")
    assert np.array_equal(overlay[:, :90], image)
    colours = {tuple(pixel) for pixel in overlay[:, 90:].reshape(-1, 3).tolist()}
    assert colours >= set(PALETTE)
    frame = read_video(Path("out/drive.mp4"))[1][2]
    assert frame.shape[1] > 100
    with pytest.raises(UserError, match="write overlay, too"):
        plan("a.png", write="ids", legend="beside", out="legend.png")


def test_nothing_is_written_over_unless_asked() -> None:
    photos(3)
    predict("photos", write="ids", out="out")
    Path("out/0/001.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"out/0/000\.png is there already: --force writes over it, --skip-done keeps"):
        plan("photos", write="ids", out="out")
    Path("out/0/000.png").unlink()
    found = predict("photos", write="ids", out="out", skip_done=True)
    assert (found.images, found.done) == (1, 2)
    assert Path("out/0/001.png").read_bytes() == b"mine"
    Path("out/shares.json").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        plan("photos", write="ids", out="out", json="out/shares.json", skip_done=True)
    assert predict("photos", write="ids", out="out", force=True).images == 3
    assert Path("out/0/001.png").read_bytes() != b"mine"


def test_what_half_is_there_is_completed_and_no_file_of_it_changed() -> None:
    image = photos(1)[0]
    write_image(Path("out/overlay/0/000.png"), image)
    before = Path("out/overlay/0/000.png").read_bytes()
    predict("photos", write="overlay,ids", out="out", skip_done=True)
    assert Path("out/overlay/0/000.png").read_bytes() == before
    assert np.array_equal(read_pillow("out/ids/0/000.png"), labels_of(image))


@pytest.mark.parametrize("force", [False, True])
def test_no_input_is_written_over_through_whatever_link(force: bool) -> None:
    photos(2)
    Path("linked").symlink_to("photos")
    Path("hard").mkdir()
    os.link("photos/0/001.png", "hard/000.png")
    before = [Path(f"photos/0/{k:03d}.png").read_bytes() for k in range(2)]
    for out in ("photos/0/000.png", "linked/0/000.png"):
        with pytest.raises(UserError, match="it is the image itself"):
            plan("photos/0/000.png", out=out, force=force)
    with pytest.raises(UserError, match="it is the image itself"):
        plan("photos", out="linked", force=force)
    with pytest.raises(UserError, match=r"hard/000\.png: it is the image itself"):
        plan("photos/0", out="hard", force=force)
    assert [Path(f"photos/0/{k:03d}.png").read_bytes() for k in range(2)] == before


def test_results_in_the_folder_itself_are_no_images_of_the_next_call() -> None:
    photos(2)
    for _ in range(2):
        assert predict("photos", out="photos/seen", force=True).images == 2
    assert predict(".", skip_done=True).images == 4


@pytest.mark.parametrize(
    ("given", "words", "message"),
    [
        ("photos", dict(out="all.png"), "cannot write 2 results into the file all.png: name a folder"),
        ("photos/0/000.png", dict(out="a.jpg"), "the overlay is a PNG; name it ....png, or a folder: a.jpg/"),
        ("photos/0/000.png", dict(out="a.png", write="soft"), "soft scores are an npz file; name it ....npz"),
        ("photos/0/000.png", dict(out="a.png", write="ids,soft"), "cannot write ids, soft of photos/0/000.png into"),
        ("drive.mp4", dict(out="a.png"), "the overlay of a video is a video; name it ....mp4"),
        ("photos", dict(out="notes"), "cannot write to notes: it is no folder"),
        ("photos", dict(write="overlay,mask"), "nothing of the kind 'mask' is written"),
        ("photos", dict(write="ids,ids"), "ids is named twice"),
        ("photos", dict(legend="below"), "got 'below'"),
        ("photos", dict(force=True, skip_done=True), "take one of them"),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_are_refused_before_the_work(given: str, words: dict[str, Any], message: str) -> None:
    photos(2)
    Path("notes").write_text("mine")
    Path("drive.mp4").write_bytes(b"")
    before = listed(Path())
    with pytest.raises(UserError, match=message):
        plan(given, **words)
    assert listed(Path()) == before


def test_images_are_turned_and_scaled_as_they_are_for_training() -> None:
    image = picture(5)
    tags = Image.Exif()
    tags[0x0112] = 6  # a quarter turn to the right
    Image.fromarray(image).save("turned.png", exif=tags)
    predict("turned.png", write="ids", out="upright.png")
    predict("turned.png", write="ids", out="stored.png", upright=False)
    assert np.array_equal(read_pillow("upright.png"), np.rot90(labels_of(image), -1))
    assert np.array_equal(read_pillow("stored.png"), labels_of(image))
    cv2.imwrite("deep.png", cv2.cvtColor(image.astype(np.uint16) * 16, cv2.COLOR_RGB2BGR))
    with pytest.raises(UserError, match=r"deep\.png: image has 16-bit pixels"):
        predict("deep.png", write="ids", out="no.png")
    predict("deep.png", write="ids", out="deep_ids.png", white=16 * 255)
    assert np.array_equal(read_pillow("deep_ids.png"), labels_of(image))


def test_names_with_line_breaks_and_of_other_scripts_are_kept() -> None:
    for name in ("two\nlines.png", "Straße 道路.png", "-dash.png", "[1].png"):
        write_image(Path("photos") / name, picture(1))
    predict("photos", write="ids", out="out", json="shares.json")
    assert listed(Path("out")) == listed(Path("photos"))
    rows = json.loads(Path("shares.json").read_text())["results"]
    assert {row["source"] for row in rows} == {f"photos/{name}" for name in listed(Path("photos"))}


def test_views_are_looked_at() -> None:
    image = picture(6, (64, 80))
    write_image(Path("a.png"), image)
    for views, calls in (
        (Views(), 1),
        (Views(flip=True), 2),
        (Views(scales=(1.0, 2.0)), 2),
        (Views(window=(32, 32), stride=(16, 16)), 3 * 4),
        (Views(True, (1.0, 2.0), (32, 32), (32, 32)), 2 * (2 * 3 + 4 * 5)),
    ):
        model = predictor()
        predict("a.png", write="ids", out="ids.png", force=True, views=views, model=model)
        assert len(model.runtime.batches) == calls  # type: ignore[attr-defined]
        seen = read_pillow("ids.png") == labels_of(image)
        assert seen.mean() > (0.9 if 2.0 in views.scales else 0.999), "but at the blocks' edges, seen larger"
