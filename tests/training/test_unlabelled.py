"""Images without labels: the labels' terms do not see them, the teacher's do, and all else stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import segkd
from segkd.datasets.loading import train_loader
from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform
from segkd.datasets.unlabelled import ImageFolder, WithoutLabels, build_images
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.models import create
from segkd.segmentor import Segmentor
from segkd.training.config import Config
from segkd.workbench.composing import compose

SCENES = dict(type="synthetic", size=(64, 96), length=4)
SIZE = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs of another size, one of which is smaller than the crop."""
    root = tmp_path_factory.mktemp("photos")
    for number, (height, width) in enumerate([(70, 120), (40, 60), (64, 96)]):
        image, _ = SyntheticStreets(length=9, size=(height, width))[number + 4]
        assert cv2.imwrite(str(root / f"{number}.png"), image[..., ::-1])
    return root


def model(**bind: Any) -> Distiller:
    torch.manual_seed(0)
    teacher = create("contextnet", num_classes=11)
    torch.manual_seed(1)
    binds = dict(pixel={**dict(student="@logits", teacher="@logits", loss=dict(type="kd"), masked=True), **bind})
    return Distiller(dict(type="fast_scnn", num_classes=11), teacher, binds).eval()


def batch(labelled: int, unlabelled: int, padded: bool = False) -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(2)
    count = labelled + unlabelled
    label = torch.randint(0, 11, (count, *SIZE), generator=numbers)
    label[labelled:] = 0
    label[labelled:, :, 48:] = 255 if padded else 0
    image = torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=numbers)
    return dict(image=image, label=label, index=torch.arange(count), labelled=torch.arange(count) < labelled)


def test_the_labels_terms_are_those_of_the_labelled_images_alone() -> None:
    both, distiller = batch(2, 3), model()
    own = {key: value[:2] for key, value in both.items() if key != "labelled"}
    terms, alone = distiller(**both), distiller(**own)
    torch.testing.assert_close(terms["loss_main"], alone["loss_main"])
    assert terms["loss_bind_pixel"] != alone["loss_bind_pixel"]
    torch.testing.assert_close(Segmentor(distiller.student)(**own)["loss_main"], alone["loss_main"])


def test_a_mask_leaves_out_the_padding_of_unlabelled_images_alone() -> None:
    both, distiller = batch(2, 2, padded=True), model()
    with torch.no_grad():
        student, teacher = (net.predict(both["image"]).float() for net in (distiller.student, distiller.teacher))
        kept = both["label"] != 255
        apart = (teacher.softmax(1) * (teacher.log_softmax(1) - student.log_softmax(1))).sum(1)
        found = distiller(**both)["loss_bind_pixel"]
    assert kept[2:].any()
    assert not kept[2:].all()
    torch.testing.assert_close(found, apart[kept].mean(), rtol=1e-5, atol=1e-6)


def test_losses_that_go_by_classes_do_not_take_them_for_class_0() -> None:
    loss = dict(type="ifvd", num_classes=11)
    distiller = model(student="@head", teacher="@head", loss=loss, masked=False, connector="auto")
    both = batch(2, 2)
    own = {key: value[:2] for key, value in both.items() if key != "labelled"}
    torch.testing.assert_close(distiller(**both)["loss_bind_pixel"], distiller(**own)["loss_bind_pixel"])


def test_the_labelled_draws_are_those_of_a_training_without(folder: Path) -> None:
    streets, transform = SyntheticStreets(length=5, size=SIZE), TrainTransform((64, 96))
    arguments: dict[str, Any] = dict(batch_size=2, steps=4, seed=3)
    plain = list(train_loader(streets, transform, **arguments))
    for workers in (0, 2):
        mixed = list(
            train_loader(
                streets, transform, workers=workers, unlabelled=ImageFolder(folder), unlabelled_size=3, **arguments
            )
        )
        seen = set()
        for one, other in zip(plain, mixed, strict=True):
            assert other["labelled"].tolist() == [True, True, False, False, False]
            for key in ("image", "label", "index"):
                assert torch.equal(other[key][:2], one[key])
            assert set(other["label"][2:].unique().tolist()) <= {0, 255}
            seen |= set(other["index"][2:].tolist())
        assert seen == {5, 6, 7}
    resumed = next(
        iter(train_loader(streets, transform, start=2, unlabelled=ImageFolder(folder), unlabelled_size=3, **arguments))
    )
    assert torch.equal(resumed["image"], mixed[2]["image"])


def test_two_processes_share_both_parts(folder: Path) -> None:
    streets, transform = SyntheticStreets(length=5, size=SIZE), TrainTransform((64, 96))
    arguments: dict[str, Any] = dict(batch_size=2, steps=1, seed=3, unlabelled=ImageFolder(folder), unlabelled_size=2)
    (whole,) = train_loader(streets, transform, **arguments)
    parts = [next(iter(train_loader(streets, transform, rank=rank, world_size=2, **arguments))) for rank in (0, 1)]
    for key in ("image", "label", "index", "labelled"):
        joined = torch.cat([part[key] for part in parts])
        assert torch.equal(joined[[0, 2, 1, 3]], whole[key])


def test_images_of_a_folder_and_of_a_data_set(folder: Path, tmp_path: Path) -> None:
    found = build_images(folder, {})
    assert isinstance(found, ImageFolder)
    assert [found[k].shape for k in range(len(found))] == [(70, 120, 3), (40, 60, 3), (64, 96, 3)]
    others = build_images(dict(length=7), SCENES)
    assert isinstance(others, WithoutLabels)
    assert len(others) == 7
    np.testing.assert_array_equal(others[6], SyntheticStreets(length=7, size=SIZE)[6].image)
    with pytest.raises(UserError, match="holds no image"):
        build_images(tmp_path, {})
    with pytest.raises(UserError, match=r"images without labels: root folder not found: .*absent"):
        build_images(tmp_path / "absent", {})


def test_a_run_learns_from_them_and_goes_on(folder: Path, tmp_path: Path) -> None:
    torch.save(create("contextnet", num_classes=11).state_dict(), tmp_path / "w.pth")
    teacher = f"contextnet@{tmp_path / 'w.pth'}"
    words: dict[str, Any] = dict(data=SCENES, batch=2, progress=False, preflight=False, recipe="crd", unlabelled=folder)
    words |= dict(overrides=["data.unlabelled_ratio=1.5", "schedule.val_interval=1"])
    whole = segkd.distill("fast_scnn", teacher, out=tmp_path / "a", steps=2, **words)
    assert whole.config["data"]["unlabelled"] == str(folder)
    assert whole.config["model"]["binds"]["contrast"]["loss"]["n_data"] == 7
    without = segkd.distill("fast_scnn", teacher, out=tmp_path / "b", steps=2, **{**words, "unlabelled": None})
    assert not _equal(whole, without)

    class Stop:
        def after_train_iter(self, training: Any, **_: Any) -> None:
            training.stop_training = training.iter == 0

    segkd.distill("fast_scnn", teacher, out=tmp_path / "c", steps=2, hooks=[Stop()], **words)
    again = segkd.distill("fast_scnn", teacher, out=tmp_path / "c", steps=2, resume=True, **words)
    assert _equal(whole, again)


def _equal(one: segkd.face.run.Run, other: segkd.face.run.Run) -> bool:
    first, second = (torch.load(run.weights("last"), weights_only=True) for run in (one, other))
    return all(torch.equal(first[key], second[key]) for key in first)


def test_what_makes_no_sense_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.unlabelled is for a teacher's terms, and the model has no teacher"):
        segkd.train(
            "fast_scnn", data=SCENES, steps=1, batch=2, config=dict(data=dict(unlabelled=str(folder))),
            out=tmp_path / "x", preflight=False, progress=False,
        )  # fmt: skip
    with pytest.raises(UserError, match=r"data\.unlabelled_ratio must be a number above 0"):
        compose("fast_scnn", data=SCENES, overrides=["data.unlabelled_ratio=0"])
    with pytest.raises(UserError, match=r"data\.unlabelled must be a dictionary, got 3"):
        compose("fast_scnn", data=SCENES, words=dict(unlabelled=3))
    assert Config.of(compose("fast_scnn", data=SCENES, words=dict(unlabelled=folder))).data.unlabelled == str(folder)
