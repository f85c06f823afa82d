"""Faults planted in a training: each is named before the first step, with its cure, and nothing is changed."""

from __future__ import annotations

import random
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mosaics import COLOURS, NAMES, ByColour, Far, Learner, Mosaics, config
from torch import Tensor, nn

from segkd.datasets.camvid import CamVid
from segkd.errors import UserError
from segkd.models import Network
from segkd.models.base import Preprocess
from segkd.models.espnet import ESPNet
from segkd.segmentor import Segmentor
from segkd.training.loop import train
from segkd.workbench.agreement import agreement, best_classes, class_iou, count_pairs, in_order, other_order
from segkd.workbench.preflight import Preflight, preflight
from segkd.workbench.records import Record
from segkd.workbench.teacher_check import Teacher, check_teacher
from segkd.workbench.teacher_trials import spread, trials

K = len(COLOURS)
PERMUTED = (3, 0, 1, 2, 6, 4, 5, 8, 11, 9, 7, 10)
PLAIN = Preprocess(mean=(0, 0, 0), std=(1, 1, 1))
HALF = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BGR = Preprocess(channels="BGR")


def errors(found: Preflight) -> str:
    return "\n".join(str(one) for one in found.errors)


def test_a_sound_training_has_no_fault() -> None:
    found = preflight(config(ByColour()), images=4)
    assert found.ok
    assert found.reason() == ""
    assert found.warnings == []
    (row,) = found.teachers
    assert row["miou"] > 95
    assert row["images"] == 4
    assert [row["name"] for row in found.terms] == ["loss_main", "loss_bind_far"]
    assert all(row["gradient"] > 0 for row in found.terms)
    assert found.step["steps"] == 3
    assert found.step["seconds_in_all"] > 3 * found.step["seconds_per_step"]
    assert found.summary().startswith("preflight (")
    assert "mIoU on 4 images, 2 terms" in found.summary()


@pytest.mark.parametrize(
    ("preprocess", "named"),
    [
        (PLAIN, "wrong preprocessing: it wants ImageNet's mean and std, which brings"),
        (HALF, "wrong preprocessing: it wants ImageNet's mean and std, which brings"),
        (BGR, "wrong preprocessing: it wants RGB images, which brings"),
    ],
)
def test_a_wrong_normalisation_and_bgr_are_named_with_the_right_one(preprocess: Preprocess, named: str) -> None:
    found = preflight(config(ByColour(preprocess=preprocess)), images=4)
    assert len(found.errors) == 1
    assert named in errors(found)
    right = 'preprocess=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=0.00392157, channels="RGB")'
    assert right.replace('"', "'") in errors(found)


def test_permuted_classes_are_named_in_their_order() -> None:
    found = preflight(config(ByColour(order=PERMUTED)), images=4)
    assert len(found.errors) == 1
    assert "permuted classes: output 0 is sand, output 1 is brick" in errors(found)
    assert f"classes={[PERMUTED.index(k) for k in range(K)]}" in errors(found)


def test_two_permuted_classes_of_many_are_found() -> None:
    order = (0, 1, 2, 3, 4, 6, 5, *range(7, K))
    found = preflight(config(ByColour(order=order)), images=4)
    assert "permuted classes: output 5 is night, output 6 is stone; say" in errors(found)


def test_permuted_classes_under_a_wrong_normalisation_are_both_named() -> None:
    found = preflight(config(ByColour(order=PERMUTED, preprocess=PLAIN)), images=4)
    assert "wrong preprocessing: it wants ImageNet's mean and std" in errors(found)
    assert f"classes={[PERMUTED.index(k) for k in range(K)]}" in errors(found)


def test_shifted_classes_are_named() -> None:
    found = preflight(config(ByColour(order=(None, *range(K - 1)))), images=4)
    assert "shifted classes: each is one output away from its place (its first output is void)" in errors(found)
    assert f"classes={[*range(1, K), None]}" in errors(found)
    found = preflight(config(ByColour(order=(*range(1, K), None))), images=4)
    assert "(void comes last in it and first in the labels)" in errors(found)


@pytest.mark.parametrize("seed", range(5))
def test_random_weights_are_named(seed: int) -> None:
    teacher = ByColour()
    torch.manual_seed(seed)
    teacher.classifier.reset_parameters()
    found = preflight(config(teacher), images=4)
    assert "its weights look missing or random: set model.teacher.weights" in errors(found), found


def test_damaged_weights_are_named() -> None:
    teacher = ByColour()
    nn.init.constant_(teacher.classifier.weight, torch.nan)
    assert "its logits are not finite" in errors(preflight(config(teacher), images=2))


@pytest.mark.parametrize(("order", "void"), [((*range(K), None), "last"), ((None, *range(K)), "first")])
def test_one_output_too_many_is_void(order: tuple[int | None, ...], void: str) -> None:
    found = preflight(config(ByColour(K + 1, order)), images=4)
    assert f"teacher: {K + 1} outputs, but the data has {K} classes: its {void} output is void" in errors(found)
    assert f"classes={[order.index(k) for k in range(K)]}" in errors(found)
    assert found.step == {}  # it could not be built


def test_a_mistake_that_is_not_the_teachers_is_told_as_a_training_tells_it() -> None:
    with pytest.raises(UserError, match="bind 'far': student tap '' gives 5 channels, teacher tap '' 12"):
        preflight(config(ByColour(), student=dict(type=Learner, num_classes=5)))


def test_a_term_that_is_no_number_or_has_no_gradient_is_named() -> None:
    found = preflight(config(ByColour(), dict(type=Far, broken=True)), images=2)
    assert "the term loss_bind_far (Far) is nan on the first batch" in errors(found)
    found = preflight(config(ByColour(), dict(type=Far, deaf=True)), images=2)
    assert "the term loss_bind_far (Far) gives the student no gradient: it teaches nothing" in errors(found)
    binds = dict(far=dict(student="unused", teacher="", loss=dict(type=Far)))
    found = preflight(config(ByColour(), binds=binds), images=2)
    assert found.ok  # it trains a layer of the student, if none that counts


def test_a_loud_term_is_named_with_the_weight_that_makes_it_equal() -> None:
    found = preflight(config(ByColour(), dict(type=Far, factor=1000.0)), images=2)
    assert found.ok
    (warning,) = found.warnings
    pull = next(row["pull"] for row in found.terms if row["name"] == "loss_bind_far")
    assert f"the term loss_bind_far (Far) pulls {pull:.0f} times as hard as the labels" in str(warning)
    weight = float(warning.cure.partition("weight=")[2].split()[0])
    binds = dict(far=dict(student="", teacher="", loss=dict(type=Far, factor=1000.0), weight=weight))
    quiet = preflight(config(ByColour(), binds=binds), images=2)
    assert quiet.warnings == []
    assert next(row["pull"] for row in quiet.terms if row["name"] == "loss_bind_far") == pytest.approx(1, rel=0.1)


def test_a_term_that_begins_later_counts_in_full() -> None:
    late = dict(student="", teacher="", loss=dict(type=Far), schedule=dict(warmup=1000))
    now = dict(student="", teacher="", loss=dict(type=Far))
    values = [preflight(config(ByColour(), binds=dict(far=bind)), images=2).terms[1] for bind in (late, now)]
    assert values[0] == values[1]


def test_a_network_alone_and_an_untrained_teacher_are_not_scored() -> None:
    cfg = config()
    cfg["model"] = dict(type=Segmentor, network=dict(type=Learner))
    alone = preflight(cfg)
    assert (alone.ok, alone.teachers, len(alone.terms)) == (True, [], 1)
    untrained = preflight(config(dict(type=Learner), untrained_teacher=True))
    assert (untrained.ok, untrained.teachers) == (True, [])
    assert "untrained, as the config wants it" in str(untrained.warnings[0])


def test_a_full_disk_and_a_step_that_does_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    assert "MiB, but 0 MiB are free on the disk; make room" in errors(preflight(config(ByColour()), images=2))

    def large(self: Any, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return nn.functional.pad(x, (0, 0, 0, 0, 0, K - 3)) * next(self.parameters()).mean()

    monkeypatch.setattr(Learner, "forward", large)
    found = preflight(config(ByColour()), images=2)
    assert "does not fit into the memory of cpu (CUDA out of memory" in errors(found)


def test_a_teacher_far_below_its_record_is_named(tmp_path: Path) -> None:
    class Tired(ByColour):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            logits[:, 0, ::2] = 1e6
            return logits

    (tmp_path / "metrics.json").write_text('{"val_best": {"mIoU": 97.5, "step": 3}, "val_last": {"mIoU": 40.0}}')
    for name in ("student_best.pth", "student_last.pth"):
        torch.save(ByColour().state_dict(), tmp_path / name)

    def judged(file: str, kind: type) -> Preflight:
        teacher = kind()
        vars(teacher)["_made_of"] = ((), {"weights": str(tmp_path / file)})
        return preflight(config(teacher), images=4)

    assert "97.5 recorded beside its weights: far below, and no usual preprocessing" in errors(
        judged("student_best.pth", Tired)
    )
    assert judged("student_last.pth", Tired).ok
    assert judged("student_best.pth", ByColour).teachers[0]["recorded_miou"] == 97.5


def test_names_of_classes_are_compared_with_those_of_the_teachers_run(tmp_path: Path) -> None:
    torch.save(ByColour().state_dict(), tmp_path / "student_best.pth")
    teacher = ByColour(order=PERMUTED)
    vars(teacher)["_made_of"] = ((), {"weights": str(tmp_path / "student_best.pth")})
    names = [NAMES[k].upper() for k in PERMUTED]
    (tmp_path / "config.py").write_text(f"data = {dict(dataset=dict(type='my.Own', class_names=names))}\nraise 1\n")
    found = preflight(config(teacher), images=2)
    assert "permuted classes: it has the data's classes in another order" in errors(found)
    teacher = ByColour()
    teacher.class_names = [*NAMES[:-1], "darkness"]
    found = preflight(config(teacher), images=2)
    assert found.ok
    assert "its classes are called otherwise than the data's: 11 'darkness', not 'chalk'" in str(found.warnings[0])


def test_nothing_is_changed_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    teacher, student = ByColour(), Learner()
    before = {k: v.clone() for k, v in [*teacher.state_dict().items(), *student.state_dict().items()]}
    preprocess = teacher.preprocess
    cfg = config(teacher, student=student)
    cfg["engine"] = dict(threads=1)
    loss = Far()
    cfg["model"]["binds"]["far"]["loss"] = loss
    torch.manual_seed(5)
    states = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), torch.get_num_threads())
    preflight(cfg, images=2)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert (random.getstate(), torch.get_num_threads()) == states[2:]
    after = dict([*teacher.state_dict().items(), *student.state_dict().items()])
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert teacher.preprocess is preprocess
    assert student.training
    assert all(p.grad is None for p in student.parameters())
    assert cfg["model"]["binds"]["far"]["loss"] is loss
    assert list(tmp_path.iterdir()) == []


def test_a_training_after_a_preflight_is_the_same_bit_by_bit(tmp_path: Path) -> None:
    def weights(name: str, look: bool) -> dict[str, Tensor]:
        cfg = config(ByColour())
        if look:
            assert preflight(cfg, folder=tmp_path / name, images=2).ok
        train(cfg, tmp_path / name)
        found: dict[str, Tensor] = torch.load(tmp_path / name / "student_last.pth", weights_only=True)
        return found

    with_look, without = weights("a", True), weights("b", False)
    assert all(torch.equal(value, without[key]) for key, value in with_look.items())
    with pytest.raises(UserError, match="already holds a run"):
        preflight(config(ByColour()), folder=tmp_path / "a")


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        preflight(config(ByColour()))


class Reordered(Network):
    """A network whose outputs are in another order; those beyond its own never win."""

    def __init__(self, inner: Network, order: tuple[int, ...]) -> None:
        super().__init__(len(order), inner.preprocess)
        self.inner, self.order = inner, order

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x)
        never = torch.full_like(logits[:, :1], -1e6)
        return torch.cat([logits, never], dim=1)[:, list(self.order)]


FAULTS = {
    "none": "",
    "normalisation": "it wants a 255th of that, in BGR",
    "BGR": "it wants BGR images",
    "permuted": "permuted classes: output 0 is building, output 1 is sky",
    "shifted": "(its first output is void)",
    "random": "its weights look missing or random",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_faults_of_a_published_network_on_real_images_are_named(fault: str, camvid_root: Path) -> None:
    file = camvid_root.parent / "weights" / "espnet_p_2_q_8_camvid.pth"
    if not file.is_file():
        pytest.skip(f"the published ESPNet is not beside the checkout ({file.name})")
    network: Network = ESPNet(12, outputs=11, published="camvid", weights=file).eval()
    if fault == "normalisation":
        network.preprocess = Preprocess()
    if fault == "BGR":
        network.preprocess.order = torch.tensor([0, 1, 2])
    if fault == "permuted":
        network = Reordered(network, (1, 0, 3, 2, 4, 5, 6, 7, 8, 9, 10)).eval()
    if fault == "shifted":
        network = Reordered(network, (11, *range(10))).eval()
    if fault == "random":
        torch.manual_seed(0)
        fresh = ESPNet(12, outputs=11).eval()
        fresh.preprocess = network.preprocess
        network = fresh
    row, findings = check_teacher(
        Teacher("model.teacher", network, Record(), True), CamVid(camvid_root, "val"), images=2, seconds=200
    )
    told = [str(one) for one in findings if one.level == "error"]
    assert len(told) == (fault != "none"), (row, told)
    assert FAULTS[fault] in "".join(told)


def test_scores_equal_their_closed_forms() -> None:
    counts = torch.tensor([[20, 5], [10, 15]])  # Cohen's kappa of this table is 0.4, as every textbook has it
    found = agreement(counts, (0, 1))
    assert found.kappa == pytest.approx(0.4)
    assert found.pixel_accuracy == pytest.approx(70)
    assert found.miou == pytest.approx(100 * (20 / 35 + 15 / 30) / 2)
    assert agreement(torch.tensor([[30, 0], [20, 0]]), (0, 1)).kappa == pytest.approx(0)
    absent = agreement(torch.tensor([[8, 2, 0], [0, 0, 0], [0, 0, 10]]), (0, 1, 2))
    assert absent.miou == pytest.approx(90)  # class 1, which no label holds, does not count


def test_the_best_order_is_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        counts = torch.randint(0, 50, (5, 5), generator=generator)
        iou = [float(class_iou(counts, order).nansum()) for order in permutations(range(5))]
        assert float(class_iou(counts, best_classes(counts)).nansum()) == pytest.approx(max(iou), abs=0.5)


def test_a_weak_teacher_is_not_taken_for_a_permuted_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        counts = torch.rand(11, 11, generator=generator).pow(6).mul(100).long() + 120 * torch.eye(11).long()
        assert other_order(counts, in_order(11, 11)) is None


def test_pairs_leave_void_out() -> None:
    label = torch.tensor([[[0, 1, 255], [1, 1, 0]]])
    prediction = torch.tensor([[[0, 2, 1], [1, 2, 2]]])
    assert count_pairs(prediction, label, 2, 3).tolist() == [[1, 0, 1], [0, 1, 2]]


@pytest.mark.parametrize(("length", "images"), [(1, 8), (5, 8), (8, 8), (101, 8), (101, 5), (3, 1)])
def test_images_are_spread(length: int, images: int) -> None:
    found = spread(length, images)
    assert len(found) == len(set(found)) == min(length, images)
    assert all(0 <= index < length for index in found)
    if len(found) > 2:
        assert abs(found[1] - found[0]) > length // 4  # also the first two


def test_a_preprocessing_equal_to_the_own_is_not_tried() -> None:
    names = [trial.what for trial in trials(Preprocess())]
    assert "it wants ImageNet's mean and std" not in names
    assert names[0] == "it wants BGR images"
    ours = Preprocess(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), scale=1.0)
    assert "it wants ImageNet's mean and std" not in [trial.what for trial in trials(ours)]
    assert isinstance(Mosaics()[0].image, np.ndarray)
