"""``segkd.train`` and ``segkd.distill``: what they take, that they train what a config trains, what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from face_kit import SCENES, TINY
from torch import Tensor, nn

import segkd
from segkd.cli.main import main
from segkd.datasets import Sample, SegmentationDataset
from segkd.datasets.synthetic import SyntheticStreets
from segkd.errors import UserError
from segkd.face.run import Run
from segkd.losses import DistillationLoss
from segkd.losses.cwd import ChannelWise
from segkd.models import NETWORKS, Network, create
from segkd.training.configfile import dump_config, load_config
from segkd.training.loop import train as run_config
from segkd.workbench.composing import compose
from segkd.workbench.making import bind_configs

CONFIG = dict(model=dict(type="Segmentor", network=dict(type="contextnet", num_classes=11)))


class Small(Network):
    """A network of a user's."""

    def __init__(self, num_classes: int, *, width: int = 4) -> None:
        super().__init__(num_classes)
        self.layer = nn.Conv2d(3, width, 3, padding=1)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.layer(x).relu())
        return logits


class Stripes(SegmentationDataset):
    """A data set of a user's."""

    class_names = ("left", "right")
    palette = ((0, 0, 0), (255, 255, 255))

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        label = np.zeros((40, 64), np.uint8)
        label[:, 32:] = 1
        return Sample(np.repeat(label[..., None] * 200, 3, axis=2), label)


class Farness(DistillationLoss):
    """A loss of a user's."""

    def forward(self, student: Any, teacher: Any, label: Any = None, **others: Any) -> Tensor:
        value: Tensor = (student - teacher).abs().mean()
        return value


def weights(run: Run) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(run.weights("last"), weights_only=True)
    return found


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_tells_what_it_is(teacher: Run, student: Run) -> None:
    assert repr(student).startswith(f"Run({str(student.folder)!r}, 2 steps, val mIoU ")
    assert student.metrics["steps"] == 2
    assert [line["step"] for line in student.history if "val" in line] == [2]
    assert {"loss_main", "loss_bind_pixel"} <= student.history[-2].keys() | student.history[-1].keys()
    assert not student.student.training
    best = torch.load(student.folder / "student_best.pth", weights_only=True)
    assert equal(student.student.state_dict(), best)


def test_it_trains_what_the_config_in_its_folder_trains(teacher: Run, student: Run, tmp_path: Path) -> None:
    for run in (teacher, student):
        run_config(load_config(run.folder), tmp_path / run.folder.name)
        again = Run(tmp_path / run.folder.name, {})
        assert equal(weights(run), weights(again))


def test_losses_alone_compare_the_logits_without_void_where_they_take_a_mask() -> None:
    logits = dict(student="", teacher="")
    assert bind_configs("kd") == dict(kd=dict(**logits, loss=dict(type="kd"), masked=True))
    binds = bind_configs(["cwd", dict(type="skd_holistic"), ChannelWise(2.0)])
    assert [bind["masked"] for bind in binds.values()] == [True, False, True]
    assert list(binds) == ["cwd", "skd_holistic", "channelwise"]
    assert binds["channelwise"]["loss"] == dict(type=ChannelWise, temperature=2.0)


@pytest.mark.parametrize("progress", [True, False])
def test_only_progress_is_printed(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    segkd.train("fast_scnn", data=SCENES, out="out", **{**TINY, "progress": progress})
    said = capsys.readouterr()
    assert ("step 2/2" in said.out) is progress
    assert (said.out + said.err == "") is not progress


def test_arms_start_bit_equal(teacher: Run, tmp_path: Path) -> None:
    rest: dict[str, Any] = {**TINY, "lr": 0.0, "overrides": ["optim.optimizer.weight_decay=0.0"], "seed": 3}
    alone = segkd.train("contextnet", data=SCENES, out="alone", **rest)
    taught = segkd.distill("contextnet", teacher, out="taught", **rest)
    parameters = dict(alone.student.named_parameters())
    assert all(torch.equal(p, parameters[name]) for name, p in taught.student.named_parameters())


def test_the_command_line_goes_on_with_a_run_and_python_too(teacher: Run, tmp_path: Path) -> None:
    run = segkd.train("fast_scnn", data=SCENES, out=Path("run"), **TINY)
    assert main(["train", "run", "--resume", "--steps", "3"]) == 0
    assert run.metrics["steps"] == 3
    segkd.train(run, steps=4, resume=True, progress=False)
    assert run.metrics["steps"] == 4
    assert main(["eval", "run", "run/student_last.pth", "--no-speed"]) == 0


def test_words_config_and_overrides_reach_a_config_file(camvid_tree: Path, tmp_path: Path) -> None:
    dump_config(compose("fast_scnn", data="camvid"), tmp_path / "plain.py")
    run = segkd.train(
        "plain.py", data=camvid_tree, steps=1, lr=2e-3, batch=2, size=(64, 96), device="cpu", seed=7,
        precision="fp32", workers=0, config=dict(optim=dict(accumulate=2)), overrides=["schedule.warmup=0"],
        progress=False,
    )  # fmt: skip
    assert run.folder == Path("work/plain")
    cfg = segkd.load(run.folder).config  # type: ignore[union-attr]
    assert cfg["optim"] == {**cfg["optim"], "accumulate": 2}
    assert cfg["optim"]["optimizer"]["lr"] == 2e-3
    assert (cfg["data"]["batch_size"], cfg["data"]["augment"]["crop_size"], cfg["seed"]) == (2, (64, 96), 7)
    assert cfg["engine"] == dict(precision="fp32", channels_last=True, device="cpu")
    assert cfg["data"]["dataset"]["root"] == str(camvid_tree)


class Quiet:
    """A hook that takes no arguments."""

    def before_run(self, training: Any) -> None:
        assert training.max_iters


def test_own_networks_teach_by_weights_though_they_take_none_and_hooks_without_arguments_are_written() -> None:
    data, rest = (Stripes(4), Stripes(2)), dict(TINY, hooks=[Quiet()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher = segkd.train(Small(2, width=8), data=data, out="teacher", **rest)
        segkd.distill(Small(2), teacher, binds=Farness(), out="student", **rest)
    cfg = load_config("student")
    assert cfg["hooks"] == [dict(type=f"{__name__}.Quiet")]
    assert cfg["model"]["teacher"] == dict(
        type=f"{__name__}.Small", num_classes=2, width=8, weights=str(teacher.weights().resolve())
    )
    assert main(["train", "student", "--resume", "--steps", "3"]) == 0
    assert main(["eval", "student", "student/student_last.pth", "--teacher", "--no-speed"]) == 0
    with pytest.raises(UserError, match=r"weights file not found: none.pth"):
        NETWORKS.build(dict(type=Small, num_classes=2, weights="none.pth"))


@pytest.mark.parametrize("by", ["config", "name"])
def test_epochs_take_the_steps_out(by: str) -> None:
    given: Any = "fast_scnn" if by == "name" else {**segkd.train("fast_scnn", data=SCENES, out="a", **TINY).config}
    run = segkd.train(given, data=SCENES, epochs=2, batch=2, out="b", progress=False)
    assert run.metrics["steps"] == 4
    assert "steps" not in run.config["schedule"]


def test_objects_are_trained_as_copies_and_written_by_what_they_were_made_of(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Small(2, width=3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    seen: list[int] = []

    class Count:
        def after_train_iter(self, training: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
            seen.append(batch_idx)

    with pytest.warns(UserWarning, match=r"out cannot hold hooks.0: the Count object: the commands will not"):
        run = segkd.train(network, data=(Stripes(4), Stripes(2)), hooks=[Count()], out="out", **TINY)
    assert seen == [0, 1]
    assert equal(before, network.state_dict())
    assert not equal(before, weights(run))
    kept = load_config("out")
    assert kept["model"]["network"] == dict(type=f"{__name__}.Small", num_classes=2, width=3)
    assert kept["data"]["train"] == dict(type=f"{__name__}.Stripes", length=4)
    assert str(Path(__file__).parent) in kept["imports"]
    assert main(["eval", "out", "out/student_last.pth", "--no-speed"]) == 0


def test_any_module_is_a_network_and_one_that_no_file_can_hold_is_given_again(capsys: Any) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 11, 3, stride=2, padding=1))
    with pytest.warns(UserWarning, match=r"out cannot hold model.network: the OwnNetwork object: .* segkd.load\(run"):
        run = segkd.train(plain, data=SCENES, out="out", **TINY)
    assert run.student.predict(torch.zeros(1, 3, 33, 47, dtype=torch.uint8)).shape == (1, 11, 33, 47)
    assert main(["eval", "out", "out/student_last.pth", "--no-speed"]) == 2
    assert "error: the OwnNetwork object was given from Python and is in no file: give it again" in (
        capsys.readouterr().err
    )
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    again = segkd.load("out", network=plain)
    assert isinstance(again, Run)
    assert not equal(again.student.module.state_dict(), before)  # type: ignore[arg-type, operator, union-attr]
    assert equal(plain.state_dict(), before)
    assert equal(again.student.state_dict(), run.student.state_dict())
    with pytest.raises(UserError, match=r"Sequential must give logits \(N, 2, h, w\), one channel a class"):
        segkd.train(plain, data=(Stripes(2), Stripes(2)), out="other", **TINY)


def test_a_trained_network_teaches_and_its_run_says_that_its_weights_are_needed(capsys: Any) -> None:
    teacher = create("fast_scnn", num_classes=11)
    binds = {
        "far": segkd.Bind(student="classifier", teacher="classifier", loss=Farness(), weight=0.5),
        "channel": dict(student="", teacher="", loss=ChannelWise(2.0)),
        "logits": "kd",
    }
    with pytest.warns(UserWarning, match="out does not hold the teacher's weights: to go on by the command line"):
        run = segkd.distill(create("contextnet", num_classes=11), teacher, binds=binds, data=SCENES, out="out", **TINY)
    terms = {"loss_main", "loss_bind_far", "loss_bind_channel", "loss_bind_logits"}
    assert terms <= {key for line in run.history for key in line}
    assert load_config("out")["model"]["binds"]["far"]["loss"] == dict(type=f"{__name__}.Farness")
    assert main(["eval", "out", "out/student_last.pth", "--no-speed"]) == 0
    assert main(["train", "out", "--resume", "--steps", "3"]) == 2
    assert "the teacher has no weights: set model.teacher.weights to a file" in capsys.readouterr().err
    torch.save(teacher.state_dict(), "teacher.pth")
    more = ["--set", "model.teacher.weights=teacher.pth"]
    assert main(["train", "out", "--resume", "--steps", "3", *more]) == 0


def test_weights_that_were_trained_on_are_not_taken_for_those_of_the_file() -> None:
    torch.save(create("fast_scnn", num_classes=11).state_dict(), "teacher.pth")
    teacher = create("fast_scnn", num_classes=11, weights="teacher.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segkd.distill("contextnet", teacher, data=SCENES, out="a", **TINY)
    assert load_config("a")["model"]["teacher"]["weights"] == "teacher.pth"
    with torch.no_grad():
        next(teacher.parameters()).add_(1)
    with pytest.warns(UserWarning, match="does not hold the teacher's weights"):
        segkd.distill("contextnet", teacher, data=SCENES, out="b", **TINY)
    assert "weights" not in load_config("b")["model"]["teacher"]


def test_a_training_model_is_taken_as_its_config() -> None:
    model = segkd.Segmentor(dict(type="contextnet", num_classes=11))
    run = segkd.train(model, data=SCENES, out="a", **TINY)
    same = segkd.train(dict(type="contextnet"), data=SCENES, out="b", **TINY)  # by name, it would bring its schedule
    assert equal(weights(run), weights(same))


def test_one_data_set_knows_its_other_splits() -> None:
    train = SyntheticStreets(3, size=(64, 96))
    run = segkd.train("contextnet", data=train, out="a", **TINY)
    assert run.config["data"]["val"] == dict(split="val")
    assert len(run.config["data"]["train"]) == 3
    with pytest.raises(UserError, match=r"one Stripes is no data set of two splits: give data=\(train, val\)"):
        segkd.train("contextnet", data=Stripes(2), out="b", **TINY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: segkd.train("fast_scn", data=SCENES), "'fast_scn' is neither a network nor a config; did you mean"),
        (lambda: segkd.train("fast_scnn"), "no data set: give data= a name"),
        (lambda: segkd.train("fast_scnn", data="camvidd"), "unknown data set 'camvidd'; did you mean 'camvid'"),
        (lambda: segkd.train("fast_scnn", data="camvid", steps=1), "root"),
        (lambda: segkd.train("fast_scnn", data=SCENES, stpes=3), "no argument 'stpes'; did you mean 'steps'"),
        (lambda: segkd.train("fast_scnn", data=SCENES, steps=3, epochs=2), "steps and epochs: give one of them"),
        (lambda: segkd.train("fast_scnn", data=SCENES, steps=1.5), "schedule.steps must be an integer"),
        (lambda: segkd.train("fast_scnn", data=SCENES, steps=1, lr="fast"), "lr='fast': optim.optimizer.lr is 0.032"),
        (lambda: segkd.train("fast_scnn", data=SCENES, steps=1, device="gpu", out="x"), "'gpu' is no device"),
        (lambda: segkd.train("fast_scnn", data=SCENES, steps=1, config=dict(optm={})), "optm, which means nothing"),
        (lambda: segkd.train("fast_scnn", data=SCENES, steps=1, overrides="a=1"), r"write \['a=1'\]"),
        (lambda: segkd.train("fast_scnn", data=dict(training=1), steps=1), "as train, val and test, not 'training'"),
        (lambda: segkd.train("fast_scnn", data=(1, 2), steps=1), "an object of a class made of segkd.datasets"),
        (lambda: segkd.train(3, data=SCENES, steps=1), "a network is given by its name, a class, dict"),
        (lambda: segkd.distill("fast_scnn", data=SCENES, steps=1), "no teacher: give teacher="),
        (lambda: segkd.distill("fast_scnn", "pspnet_r50", data=SCENES, steps=1, out="x"), "the teacher has no weights"),
        (lambda: segkd.distill("fast_scnn", "pspnet_r5", data=SCENES, steps=1), "unknown teacher 'pspnet_r5'"),
        (lambda: segkd.distill("students/synthetic/fast_scnn", steps=1), "--student fast_scnn --data synthetic"),
        (lambda: segkd.train(CONFIG, init="w.pth"), "init= goes with a network by name"),
        (lambda: segkd.train(CONFIG, schedule="gpu"), "schedule= goes with a network by name"),
        (lambda: segkd.distill(CONFIG, "espnet", recipe="kd"), "recipe= goes with a network by name"),
        (
            lambda: segkd.distill(segkd.Segmentor(dict(type="contextnet", num_classes=11)), "espnet", data=SCENES),
            "a Segmentor is complete",
        ),
        (lambda: segkd.load("nothing"), "no such file: nothing"),
        (lambda: segkd.load("x", netwrk=1), "segkd.load has no argument 'netwrk'; did you mean 'network'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_leave_nothing(call: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_key_of_a_config_is_refused(teacher: Run) -> None:
    with pytest.raises(UserError, match="sets schedul, which means nothing; did you mean 'schedule'"):
        segkd.train({**teacher.config, "schedul": 1}, out="x")
