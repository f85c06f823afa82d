"""A teacher's answers kept: the same as the live teacher's without augmentation, as its warped ones with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import segkd
from segkd.cli.main import main
from segkd.datasets import create
from segkd.datasets.answers import read_maps, write_maps
from segkd.errors import UserError
from segkd.face.composing import distillation_config
from segkd.training.build import build_dataset, build_model, build_train_loader
from segkd.training.config import Config

PLAIN = dict(scale=None, flip=0.0, photometric=False)
VARIED = dict(scale=(0.6, 1.7), flip=0.5, photometric=True)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "linknet.pth"
    network = segkd.models.create("linknet", num_classes=11)
    torch.save(network.state_dict(), file)
    return f"linknet@{file}"


def words(augment: Mapping[str, Any], size: tuple[int, int] = (64, 96), **data: Any) -> dict[str, Any]:
    section = dict(type="synthetic", size=size, length=6)
    config = dict(data=dict(augment=dict(crop_size=(64, 96), **augment), batch_size=4, **data))
    return dict(data=section, config=config)


Terms = tuple[dict[str, Any], dict[str, Tensor]]


def terms(
    teacher: Any, recipe: str, augment: Mapping[str, Any], **data: Any
) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Targets of the binds, and the labels, of the first batch."""
    cfg = Config.of(distillation_config("fast_scnn", teacher, recipe=recipe, **words(augment, **data)))
    model = build_model(cfg)
    batch = dict(next(iter(build_train_loader(cfg.with_steps(6), build_dataset(cfg, "train"), 0, 2))))
    views = {key: value for key, value in batch.items() if key not in ("image", "label", "index", "labelled")}
    return model.teach(batch["image"], 0, views), batch  # type: ignore[attr-defined]


def near(ours: Mapping[str, Any], theirs: Mapping[str, Any], part: float) -> None:
    assert ours.keys() == theirs.keys()
    for bind in theirs:
        mine, other = list(ours[bind].values()), list(theirs[bind].values())
        for a, b in zip(mine, other, strict=True):
            assert a.shape == b.shape
            assert float((a - b).abs().max()) <= part * float(b.abs().max())


@pytest.mark.parametrize("recipe", ["kd", "at", "feature"])
def test_equal_to_the_live_teacher_without_augmentation(teacher: str, tmp_path: Path, recipe: str) -> None:
    found = segkd.cache("fast_scnn", teacher, recipe=recipe, out=tmp_path / "kept", progress=False, **words(PLAIN))
    assert found.images == {"labelled": 6}
    live, batch = terms(teacher, recipe, PLAIN)
    kept, same = terms(f"cache:{tmp_path / 'kept'}", recipe, PLAIN)
    assert torch.equal(batch["image"], same["image"])
    near(kept, live, 2e-3)  # float16


@pytest.mark.parametrize("recipe", ["kd", "at"])
def test_equal_to_the_whole_view_with_augmentation(teacher: str, tmp_path: Path, recipe: str) -> None:
    segkd.cache("fast_scnn", teacher, recipe=recipe, out=tmp_path / "kept", progress=False, **words(VARIED))
    kept, batch = terms(tmp_path / "kept", recipe, VARIED)
    whole, same = terms(teacher, recipe, VARIED, teacher_view="whole")
    assert torch.equal(batch["image"], same["image"])
    near(kept, whole, 5e-3)
    crops, _ = terms(teacher, recipe, VARIED)
    with pytest.raises(AssertionError):  # what it gives for the crops themselves is something else
        near(kept, crops, 5e-3)


def test_the_whole_view_without_augmentation_is_the_crop(teacher: str) -> None:
    whole, _ = terms(teacher, "kd", PLAIN, teacher_view="whole")
    plain, _ = terms(teacher, "kd", PLAIN)
    near(whole, plain, 1e-5)
    larger, _ = terms(teacher, "kd", PLAIN, teacher_view=(96, 144))
    assert next(iter(larger.values()))[""].shape == (4, 11, 64, 96)


def test_maps_in_few_bytes(tmp_path: Path) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    logits = 5 * torch.randn(7, 4, 4, generator=torch.Generator().manual_seed(0))
    want = logits.log_softmax(0)
    write_maps(tmp_path / "all.npz", [logits], image, top=7)
    torch.testing.assert_close(read_maps(tmp_path / "all.npz", image)[0], want, atol=5e-3, rtol=2e-3)
    write_maps(tmp_path / "three.npz", [logits], image, top=3)
    three = read_maps(tmp_path / "three.npz", image)[0]
    torch.testing.assert_close(three.exp().sum(0), torch.ones(4, 4), atol=2e-3, rtol=0)
    likeliest = want.topk(3, 0).indices
    torch.testing.assert_close(three.gather(0, likeliest), want.gather(0, likeliest), atol=5e-3, rtol=2e-3)
    rest = torch.ones_like(want, dtype=torch.bool).scatter_(0, likeliest, False)
    assert float(three.exp()[rest].max()) < float(three.exp().gather(0, likeliest).max())
    write_maps(tmp_path / "bytes.npz", [logits], image, kind="uint8")
    error = (read_maps(tmp_path / "bytes.npz", image)[0] - logits).abs()
    step = (logits.amax((1, 2)) - logits.amin((1, 2))) / 255
    assert (error <= step[:, None, None] / 2 + 1e-6).all()
    with pytest.raises(UserError, match="answers to another image than the training's"):
        read_maps(tmp_path / "all.npz", image + 1)


def test_a_run_on_answers_and_its_mistakes(teacher: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    import cv2

    for number, (image, _) in enumerate(create("synthetic", length=3, size=(70, 100), split="test")):
        cv2.imwrite(str(photos / f"{number}.png"), image)
    base = ["--student", "fast_scnn", "--recipe", "kd", "--data", "synthetic", "--crop", "64x96"]
    base += ["--set", "data.dataset.size=64,96", "--set", "data.train.length=5", "--set", "data.val.length=2"]
    base += ["--set", "data.augment.scale=0.7,1.4"]
    own = [*base, "--unlabelled", str(photos)]
    kept = tmp_path / "kept"
    made = ["cache", *own, "--teacher", teacher, "--out", str(kept), "--top", "4", "--uint8"]
    assert main(made) == 0
    assert "5 labelled images and 3 unlabelled images" in " ".join(capsys.readouterr().out.split())
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*.npz")}
    assert len(before) == 8
    assert main(made) == 0  # nothing is done twice
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*.npz")} == before
    train = ["train", "--teacher", str(kept), "--steps", "2", "--batch", "2"]
    assert main([*train, *own, "--out", str(tmp_path / "run")]) == 0  # the first look included
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["steps"] == 2
    assert main(["eval", str(tmp_path / "run"), "--teacher", "--no-speed"]) == 0  # the teacher itself, on val
    capsys.readouterr()
    for arguments, message in (
        ([*train, *base, "--set", "data.train.length=4", "--out", str(tmp_path / "a")], "has 4 labelled images, and"),
        ([*train, *own, "--set", "data.dataset.seed=3", "--out", str(tmp_path / "b")], "answers to another image"),
        ([*made, "--set", "data.train.length=4"], "holds answers with another parts"),
        (
            [*train, *own, "--set", "data.teacher_view=whole", "--out", str(tmp_path / "c")],
            "leave out data.teacher_view",
        ),
        (["cache", *own, "--teacher", str(kept), "--out", str(tmp_path / "d")], "holds answers already"),
        (
            ["cache", *base, "--recipe", "at", "--teacher", teacher, "--top", "2", "--out", str(tmp_path / "e")],
            "no term",
        ),
        ([*train, *own, "--recipe", "at", "--out", str(tmp_path / "f")], "is '@head'; it has @logits, @classifier"),
    ):
        assert main(arguments) == 2, arguments
        err = capsys.readouterr().err
        assert message in err
        assert "Traceback" not in err
    with pytest.raises(UserError, match="whose classes are as they were kept"):
        segkd.teachers.load_teacher(kept, classes=[0, 1])


def test_an_augmentation_without_views_is_refused(teacher: str, tmp_path: Path) -> None:
    cfg = Config.of(distillation_config("fast_scnn", teacher, recipe="kd", **words(PLAIN, teacher_view="whole")))
    cfg.data.augment.clear()  # type: ignore[attr-defined]
    cfg.data.augment.update(type=Plain)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="Plain does not say where its crops lie"):
        build_train_loader(cfg.with_steps(6), build_dataset(cfg, "train"), 0, 2)


class Plain:
    def __call__(self, image: Any, label: Any, seed: int) -> Any:
        return image, label
