"""A teacher's answers as files: they are what it says, go on where they stopped, and train a student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import segkd
from segkd.cli.main import main
from segkd.datasets.synthetic import SyntheticStreets
from segkd.errors import UserError
from segkd.models import Network, create
from segkd.workbench import labelling
from segkd.workbench.labelling import label_images, open_named_teacher

SIZES = [(64, 96), (70, 101)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for number, (height, width) in enumerate(SIZES):
        image, _ = SyntheticStreets(length=2, size=(height, width))[number]
        assert cv2.imwrite(str(root / f"scene {number}.png"), image[..., ::-1])
    return root


@pytest.fixture(scope="module")
def teacher() -> Network:
    torch.manual_seed(0)
    network = create("fast_scnn", num_classes=5).eval()
    with torch.no_grad():
        network.classifier.weight.mul_(0.05)  # type: ignore[operator, union-attr]
    return network


def answer(teacher: Network, file: Path) -> torch.Tensor:
    image = torch.from_numpy(cv2.imread(str(file))[..., ::-1].copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        return teacher.predict(image).double().softmax(1)[0]


def read(path: Path) -> Any:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_files_hold_what_the_teacher_says(teacher: Network, photos: Path, tmp_path: Path) -> None:
    least = float(answer(teacher, photos / "scene 0.png").max(0).values.median())
    found = label_images(teacher, photos, tmp_path, min_confidence=least, top=3, stride=4)
    void = total = 0
    for number, size in enumerate(SIZES):
        probabilities = answer(teacher, photos / f"scene {number}.png")
        best, wanted = probabilities.max(0)
        label, sure = (read(tmp_path / kind / f"scene {number}.png") for kind in ("labels", "confidence"))
        assert label.shape == sure.shape == size
        clear = ((best - least).abs() > 1e-4).numpy()
        np.testing.assert_array_equal(label[clear], wanted.masked_fill(best < least, 255).numpy()[clear])
        assert np.abs(sure / 255 - best.numpy()).max() < 0.5 / 255 + 1e-4
        assert clear.mean() > 0.9
        void, total = void + (label == 255).sum(), total + label.size
        with np.load(tmp_path / "soft" / f"scene {number}.npz") as soft:
            height, width = -(-size[0] // 4), -(-size[1] // 4)
            assert soft["classes"].shape == soft["probabilities"].shape == (3, height, width)
            h, w = size[0] // 4, size[1] // 4  # cells that are whole
            own = probabilities[:, : 4 * h, : 4 * w].reshape(5, h, 4, w, 4).mean((2, 4))
            inner = soft["probabilities"][:, :h, :w].astype(float)
            np.testing.assert_allclose(inner, own.topk(3, 0).values.numpy(), atol=1e-3)
            again = np.take_along_axis(own.numpy(), soft["classes"][:, :h, :w].astype(int), 0)
            np.testing.assert_allclose(again, inner, atol=1e-3)
    assert 0 < void < total
    assert found.void == pytest.approx(100 * void / total)
    assert sum(found.shares) == pytest.approx(100)
    assert (tmp_path / "classes.txt").read_text().split("\n")[:2] == ["class 0", "class 1"]


def test_it_goes_on_and_refuses_another_call(
    teacher: Network, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = label_images(teacher, photos, tmp_path)
    (tmp_path / "labels" / "scene 1.png").unlink()
    asked = []

    def noted(network: Network, image: torch.Tensor) -> torch.Tensor:
        asked.append(tuple(image.shape[-2:]))
        return probabilities(network, image)

    probabilities = labelling._probabilities
    monkeypatch.setattr(labelling, "_probabilities", noted)
    assert label_images(teacher, photos, tmp_path) == first
    assert asked == [SIZES[1]]
    with pytest.raises(UserError, match=r"holds labels of another min_confidence: 0\.0, now it is 0\.9"):
        label_images(teacher, photos, tmp_path, min_confidence=0.9)
    (tmp_path / "label.json").unlink()
    with pytest.raises(UserError, match="holds labels that are not of `segkd label`"):
        label_images(teacher, photos, tmp_path)
    with pytest.raises(UserError, match="top=9: the teacher has 5 classes"):
        label_images(teacher, photos, tmp_path / "new", top=9)
    assert not (tmp_path / "new").exists()


def test_the_command_writes_what_a_student_trains_on(photos: Path, tmp_path: Path, capsys: Any) -> None:
    torch.manual_seed(0)
    torch.save(create("contextnet", num_classes=3).state_dict(), tmp_path / "w.pth")
    out = tmp_path / "answers"
    teacher = f"contextnet@{tmp_path / 'w.pth'}"
    assert main(["label", "--teacher", teacher, "--images", str(photos), "--out", str(out)]) == 0
    assert "2 images in" in capsys.readouterr().out
    run = segkd.train(
        "fast_scnn",
        data=dict(
            type="folder", images=str(photos), labels=str(out / "labels"), class_names=str(out / "classes.txt"), val=0.5
        ),
        steps=1, batch=2, size=(64, 96), out=tmp_path / "run", progress=False, preflight=False,
    )  # fmt: skip
    assert run.metrics["steps"] == 1
    found = segkd.label(run, photos, out=tmp_path / "again", progress=False)
    assert found.class_names == ["class 0", "class 1", "class 2"]


def test_teachers_by_name(tmp_path: Path) -> None:
    assert open_named_teacher("fast_scnn_camvid").num_classes == 11
    torch.save(create("contextnet", num_classes=3).state_dict(), tmp_path / "w.pth")
    assert open_named_teacher(f"contextnet@{tmp_path / 'w.pth'}").num_classes == 3
    with pytest.raises(UserError, match="no teacher 'absent/x': neither a file"):
        open_named_teacher("absent/x")


def test_its_folder_alone_is_data_to_train_on(teacher: Network, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "labelled"
    label_images(teacher, photos, out)
    data = segkd.datasets.create("folder", root=out)
    assert len(data) == len(SIZES)
    assert data[0].label.shape == SIZES[0]
    assert list(data.class_names) == [f"class {k}" for k in range(5)]


def test_a_damaged_record_of_what_it_is_of_is_refused(teacher: Network, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "label.json").write_text("[1", encoding="utf-8")
    with pytest.raises(UserError, match=r"label.json cannot be read: it is damaged; take another folder"):
        label_images(teacher, photos, tmp_path)


def test_images_of_more_bits_are_labelled_by_the_value_that_is_white(
    teacher: Network, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    for file in photos.iterdir():
        assert cv2.imwrite(str(tmp_path / "deep" / file.name), cv2.imread(str(file)).astype(np.uint16) * 16)
    with pytest.raises(UserError, match="say which value is white"):
        label_images(teacher, tmp_path / "deep", tmp_path / "no")
    label_images(teacher, tmp_path / "deep", tmp_path / "a", white=255 * 16)
    label_images(teacher, photos, tmp_path / "b")
    for file in (tmp_path / "b" / "labels").iterdir():
        assert file.read_bytes() == (tmp_path / "a" / "labels" / file.name).read_bytes()
