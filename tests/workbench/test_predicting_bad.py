"""Sources that can't be read, and work that is stopped: what came before is whole, nothing is left half-written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict_kit import Nearest, listed, picture, predictor, read_video, write_image, write_video
from torch import Tensor

import segkd.workbench.writing
from segkd.errors import UserError
from segkd.workbench import videos
from segkd.workbench.predicting import carry_out, plan
from segkd.workbench.predictors import open_predictor
from segkd.workbench.sources import Source


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def whole(path: str, seed: int = 1) -> Path:
    return write_image(Path(path), picture(seed))


def damaged(path: str, how: str) -> None:
    """A file that can't be read, one way or another."""
    if path.endswith(".mp4"):
        data = write_video(Path(path), [picture(1, (64, 64))] * 5).read_bytes()
    else:
        data = whole(path).read_bytes()
    if how == "folder":
        Path(path).unlink()
        return Path(path).mkdir()
    if how == "loop":
        Path(path).unlink()
        return Path(path).symlink_to(Path(path).name)
    Path(path).write_bytes({"empty": b"", "truncated": data[: len(data) // 2], "text": b"hello\n" * 40}[how])
    return None


@pytest.mark.parametrize(
    ("name", "how"),
    [("2.png", "empty"), ("2.png", "truncated"), ("2.jpg", "truncated"), ("2.png", "text"), ("2.mp4", "text"),
     ("2.mp4", "empty"), ("2.mp4", "truncated"), ("2.png", "loop")],
)  # fmt: skip
def test_a_bad_file_stops_the_work_or_is_left_out(name: str, how: str) -> None:
    for k in (1, 3):
        whole(f"photos/{k}.png", k)
    damaged(f"photos/{name}", how)
    with pytest.raises(UserError) as stop:
        carry_out(plan("photos", write="ids", out="stopped"), predictor())
    assert f"photos/{name}" in str(stop.value)
    assert "\n" not in str(stop.value)
    assert listed(Path("stopped")) == ["1.png"], "what came before is written, and nothing else"
    found = carry_out(plan("photos", write="ids", out="skipped", json="shares.json"), predictor(), skip_bad=True)
    assert listed(Path("skipped")) == ["1.png", "3.png"]
    assert [source for source, _ in found.bad] == [f"photos/{name}"]
    assert found.images == 2


def test_a_folder_called_like_an_image_is_a_folder() -> None:
    whole("photos/a.png")
    damaged("photos/b.png", "folder")
    assert carry_out(plan("photos", write="ids", out="out"), predictor()).images == 1


def test_a_file_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    whole("photos/a.png").chmod(0)
    write_video(Path("b.mp4"), [picture(1, (64, 64))] * 2)
    if os.geteuid() == 0:  # who may read all
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(UserError, match=r"b\.mp4 cannot be read"):
            videos.open_video(Source("b", "video", "b.mp4"))
        return
    with pytest.raises(UserError, match=r"photos/a\.png: the image cannot be read"):
        carry_out(plan("photos", out="out"), predictor())


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(UserError, match="camera:63 cannot be opened: is a camera of this number connected"):
        carry_out(plan("camera:63", out="out.mp4"), predictor())
    assert listed(Path()) == []


class Camera:
    """A camera as OpenCV shows one: frames without end, no count of them."""

    def __init__(self, given: Any) -> None:
        self.frames, self.open = 0, True

    def isOpened(self) -> bool:  # noqa: N802
        return self.open

    def get(self, what: int) -> float:
        return {videos.cv2.CAP_PROP_FPS: 15.0}.get(what, -1.0)

    def read(self) -> tuple[bool, Any]:
        self.frames += 1
        return True, np.full((48, 64, 3), self.frames % 256, np.uint8)

    def release(self) -> None:
        self.open = False


class Interrupted(Nearest):
    """A model during whose sixth image Ctrl-C comes."""

    def _run(self, image: Tensor) -> Tensor:
        if len(self.batches) == 5:
            raise KeyboardInterrupt
        return super()._run(image)


def test_ctrl_c_ends_the_video_of_a_camera_well(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Camera] = []

    def open_camera(given: Any) -> Any:
        return opened[-1] if isinstance(given, int) and (opened.append(Camera(given)) or True) else real(given)

    real = videos.cv2.VideoCapture
    monkeypatch.setattr(videos.cv2, "VideoCapture", open_camera)
    found = carry_out(plan("camera:0", out="out.mp4"), open_predictor(Interrupted()))
    assert found.frames == 5
    assert found.notes == ["camera:0: ended by Ctrl-C"]
    assert not opened[0].open
    rate, frames = read_video(Path("out.mp4"))
    assert (rate, len(frames)) == (15.0, 5)
    assert carry_out(plan("camera:0"), predictor(), frames=3).frames == 3
    assert listed(Path()) == ["camera0_segmented.mp4", "out.mp4"]


@pytest.mark.parametrize("ids", [True, False])
def test_a_video_that_is_stopped_is_not_there(ids: bool) -> None:
    write_video(Path("drive.mp4"), [picture(k, (48, 64)) for k in range(12)])
    words = dict(write="overlay,ids", out="out") if ids else dict(out="out.mp4")
    with pytest.raises(KeyboardInterrupt):
        carry_out(plan("drive.mp4", **words), open_predictor(Interrupted()))
    assert [name for name in listed(Path()) if not name.startswith("out/ids/drive/")] == ["drive.mp4"]


def test_a_disk_that_fills_up_leaves_no_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV says nothing of it: the frames that are there tell."""
    write_video(Path("drive.mp4"), [picture(k, (48, 64)) for k in range(6)])
    write = videos.VideoFile.write

    def loses_some(self: videos.VideoFile, frame: Any) -> None:
        if self.frames < 4:
            write(self, frame)
        else:
            self.frames += 1

    monkeypatch.setattr(videos.VideoFile, "write", loses_some)
    with pytest.raises(OSError, match="4 of 6 frames could be written") as stop:
        carry_out(plan("drive.mp4", out="out.mp4"), predictor())
    assert stop.value.filename == "out.mp4"
    assert listed(Path()) == ["drive.mp4"]


def test_an_image_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(4):
        whole(f"photos/{k}.png", k)

    def full(path: Path, sweep: bool = True) -> Iterator[Path]:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(segkd.workbench.writing, "replacing", full)
    with pytest.raises(OSError, match="No space left on device"):
        carry_out(plan("photos", out="out"), predictor())
    assert listed(Path("out")) == []


def test_a_video_without_its_end_says_how_much_of_it_was_read() -> None:
    data = write_video(Path("whole.avi"), [picture(k, (64, 64)) for k in range(20)], codec="MJPG").read_bytes()
    Path("cut.avi").write_bytes(data[: len(data) * 6 // 10])
    found = carry_out(plan("cut.avi", out="out.mp4"), predictor())
    assert 0 < found.frames < 20
    assert found.notes == [f"cut.avi: {found.frames} frames could be read; its header tells of 20"]
