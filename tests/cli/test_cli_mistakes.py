"""A user's mistakes: one line on stderr that names the thing, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cli_kit import DISTILL, STUDENT, SYNTHETIC, TINY, Refused, Run

from segkd.training.config import Config
from segkd.workbench.composing import compose

OVERRIDES = [
    ("schedule.stps=3", "did you mean 'steps'?"),
    ("shedule.steps=3", "did you mean 'schedule'"),
    ("schedule.steps", "key.sub=value"),
    ("schedule.steps=abc", "schedule.steps"),
    ("schedule.steps=0", "config: schedule.steps must be an integer from 1, got 0"),
    ("schedule.steps=2.5", "integer"),
    ("data.workers=-1", "data.workers must be an integer from 0, got -1"),
    ("seed=x", "seed"),
    ("seed=1e30", "config: seed must be 4294967295 or less, got"),
    ("optim.optimizer.lr=1e400", "optim.optimizer.lr must be finite, got inf"),
    ("optim.optimizer.betas=(0.9,1e400)", "optim.optimizer.betas must be finite"),
    ("schedule.min_lr=5", "schedule.min_lr=5 is above the optimiser's lr=0.008"),
    ("schedule.policy={'type':'StepLR','step_size':0}", "StepLR cannot take a step: integer modulo by zero"),
    ("schedule.policy={'type':'StepLR','step_size':'a'}", "StepLR cannot take a step: unsupported operand"),
    ("imports=[5]", "imports must be a list of folders, got [5]"),
    ("data.augment.crop_size=64.5,64", "crop_size must be whole (height, width)"),
    ("data.batch_size=1", "batch size 1"),
    ("data.augment.crop_size=64", "(64, 96)"),
    ("data.augment.crop_size=(64,'a')", "(64, 96)"),
    ("data.augment.crop_size=0,0", "crop_size"),
    ("data.dataset.type=camvd", "did you mean 'camvid'"),
    ("data.train.split=trian", "train, val, test"),
    ("data.train.splitt=train", "did you mean 'split'?"),
    ("optim.optimizer.lrr=1", "did you mean 'lr'?"),
    ("optim.optimizer.lr=-1", "Invalid learning rate"),
    ("optim.optimizer.type=Adamm", "'Adam'"),
    ("optim.optimizer.type=torch.optim.Adamm", "'Adam'"),
    ("optim.clip_grad=3", "max_norm"),
    ("engine.precision=fp8", "fp32, bf16"),
    ("model.type=Segmenter", "dotted path"),
    ("model.network.type=fast_scn", "did you mean 'fast_scnn'"),
    ("model.network.num_classes=19", "CamVid has 11"),
    ("model.network.num_classes=1", "at least 2 classes"),
    ("model.network.weights=nowhere.pth", "nowhere.pth"),
    ("model.supervision.main.loss.type=Focal", "'Focal'"),
    ("model.supervision.aux_detail.tap=fusionn", "did you mean 'fusion'"),
]
DISTILL_OVERRIDES = [
    ("model.teacher.weights=nowhere.pth", "nowhere.pth; train the teacher first"),
    ("model.teacher.weights=None", "teacher has no weights"),
    ("model.binds.pixl.weight=2", "did you mean 'pixel'?"),
    ("model.binds.pixel.wieght=2", "did you mean 'weight'?"),
]
# These need a teacher that can be built.
BUILT_OVERRIDES = [
    ("model.teacher.type=fast_scn", "teacher: unknown network 'fast_scn'; did you mean 'fast_scnn'"),
    ("model.binds.pixel.student=clasifier", "bind 'pixel': FastSCNN has no layer 'clasifier'; did you mean"),
    ("model.binds.pixel.loss.type=kdd", "did you mean 'kd' or 'rkd' or 'dkd'?"),
    ("model.binds.pixel.loss.temperature=-1", "temperature"),
    ("model.binds.pixel.loss.temperature=abc", "'abc'"),
    ("model.binds.pixel.loss.type=fitnet", "FitNet has no argument 'temperature'"),
    ("model.binds.pixel.weight=-1", "weight must be a number from 0, got -1"),
    ("model.binds.pixel.connector.type=conv1", "did you mean 'conv1x1'?"),
    ("model.binds.pixel.student=fusion", "connector='auto'"),
]


#: names of parts, and of configs of earlier releases -> the flags that compose what they were
COMPOSED = {
    "stdc1": "--student stdc1 --data NAME",
    "networks/stdc1": "--student stdc1 --data NAME",
    "students/camvid/stdc1": "--student stdc1 --data camvid",
    "configs/students/camvid/fast_scnn_gpu.py": "--student fast_scnn --data camvid --schedule gpu",
    "teachers/cityscapes/pspnet50": "--student pspnet50 --data cityscapes",
    "distill/camvid/fast_scnn_cwd": "--student fast_scnn --teacher TEACHER --recipe cwd --data camvid",
    "distill/camvid/fasterseg_kd": "--student fasterseg --teacher TEACHER --recipe fasterseg --data camvid",
    "mgd_cwd": "--student NAME --teacher TEACHER --recipe mgd_cwd --data NAME",
}


@pytest.fixture
def no_folder(tmp_path: Path) -> Path:
    """Where a run would go; its parents are not there either."""
    return tmp_path / "a" / "run"


@pytest.mark.parametrize(("override", "message"), OVERRIDES)
def test_a_wrong_value_of_a_student(refused: Refused, tree: Path, no_folder: Path, override: str, message: str) -> None:
    line = refused("train", *STUDENT, "--root", tree, "--out", no_folder, *TINY, "--set", override)
    assert message in line
    assert not no_folder.parent.exists()


@pytest.mark.parametrize(("override", "message"), DISTILL_OVERRIDES)
def test_a_wrong_teacher_or_bind(refused: Refused, tree: Path, no_folder: Path, override: str, message: str) -> None:
    line = refused("train", *DISTILL, "--root", tree, "--out", no_folder, *TINY, "--set", override)
    assert message in line
    assert not no_folder.parent.exists()


@pytest.mark.parametrize(("override", "message"), BUILT_OVERRIDES)
def test_what_does_not_meet_the_teacher(
    refused: Refused, tree: Path, trained: Path, no_folder: Path, override: str, message: str
) -> None:
    teacher = f"dict(type='fast_scnn', num_classes=11, weights={str(trained / 'student_last.pth')!r})"
    changes = ["--set", f"model.teacher={teacher}", "--set", override]
    line = refused("train", *DISTILL, "--root", tree, "--out", no_folder, *TINY, *changes)
    assert message in line
    assert not no_folder.parent.exists()


def test_a_teacher_with_the_weights_of_another_network(
    refused: Refused, tree: Path, trained: Path, no_folder: Path
) -> None:
    weights = trained / "student_last.pth"
    change = ["--set", f"model.teacher.weights={weights}"]
    line = refused("train", *DISTILL, "--root", tree, "--out", no_folder, *TINY, *change)
    assert f"teacher: {weights}" in line
    assert "ESPNet" in line
    assert not no_folder.parent.exists()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("kind", "message"), [("label", "label value 42 (1 pixels)"), ("image", "cannot be read")])
def test_a_file_that_is_found_wrong_while_training(
    refused: Refused, own_tree: Path, no_folder: Path, workers: int, kind: str, message: str
) -> None:
    """The first pair is looked at before the run starts; this one is met on the way, in a worker or not."""
    file = own_tree / f"{kind}s" / "train" / "5.png"
    if kind == "image":
        file.write_text("no image")
    else:
        label = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        label[3, 4] = 42
        cv2.imwrite(str(file), label)
    steps = ["--set", "schedule.steps=3", "--set", "schedule.val_interval=3", "--set", f"data.workers={workers}"]
    line = refused("train", *STUDENT, "--root", own_tree, "--out", no_folder, *TINY, *steps)
    assert str(file) in line
    assert message in line
    assert not no_folder.parent.exists()


def test_the_first_pair_is_looked_at_before_anything_is_written(
    refused: Refused, own_tree: Path, no_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("segkd.training.loop.run_folder")
    (own_tree / "images" / "val" / "0.png").write_text("no image")
    assert "0.png" in refused("train", *STUDENT, "--root", own_tree, "--out", no_folder, *TINY)


def test_a_tree_that_is_not_whole(refused: Refused, own_tree: Path, no_folder: Path, tmp_path: Path) -> None:
    (own_tree / "labels" / "train" / "3.png").unlink()
    assert "no label file '3.png'" in refused("train", *STUDENT, "--root", own_tree, "--out", no_folder, *TINY)
    assert "nowhere" in refused("train", *STUDENT, "--root", tmp_path / "nowhere", "--out", no_folder, *TINY)
    assert "images/ and labels/" in refused("train", *STUDENT, "--root", tmp_path, "--out", no_folder, *TINY)
    assert "no argument 'root'" in refused("train", *SYNTHETIC, "--root", own_tree)
    assert not no_folder.parent.exists()


def test_configs_that_cannot_be_used(refused: Refused, tmp_path: Path) -> None:
    texts = {
        "exit.py": ("x = 1\nraise SystemExit(3)", "exit.py, line 2: SystemExit: 3"),
        "imports.py": ("imports = 5", "imports must be a list of folders, got 5"),
        "cut.py": ("model = dict(", "cut.py, line 1: '(' was never closed"),
        "empty.py": ("data = dict()", "has no 'model'"),
        "foreign.py": ("from nowhere import x", "nowhere"),
        "close.py": ("modle = dict()", "did you mean 'model'?"),
        "section.py": ("model = data = optim = dict()\nschedule = dict(stpes=1)", "did you mean 'steps'?"),
        "number.py": ("model = data = optim = dict()\nschedule = 5", "must be a dictionary"),
        "split.py": ("model = optim = schedule = dict()\ndata = dict(val=5)", "data.val must be a dictionary"),
        "notes.md": ("# no config", "notes.md"),
    }
    for name, (text, message) in texts.items():
        (tmp_path / name).write_text(text)
        assert message in refused("train", tmp_path / name, "--out", tmp_path / "run"), name
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    assert "binary.py: UnicodeDecodeError" in refused("train", tmp_path / "binary.py")
    assert ". is no run folder" in refused("train", "")
    assert ". is no run folder" in refused("train", ".")
    assert "neither a file nor a run folder" in refused("inspect", "nowhere.py")
    for name, flags in COMPOSED.items():
        assert f"composed, by {flags}" in refused("inspect", name)
    (tmp_path / "folder").mkdir()
    assert "no run folder" in refused("eval", tmp_path / "folder", "x.pth")
    assert not (tmp_path / "run").exists()


def test_none_takes_a_split_or_a_whole_number_away(refused: Refused, tree: Path, no_folder: Path) -> None:
    whole = ("seed", "schedule.warmup", "data.workers", "data.batch_size", "optim.accumulate", "data.val")
    changes = [part for key in whole for part in ("--set", f"{key}=None")]
    assert "no data.val" in refused("train", *STUDENT, "--root", tree, "--out", no_folder, *TINY, *changes)
    taken = Config.of(compose("fast_scnn", data="camvid", overrides=[f"{key}=None" for key in whole]))
    kept = Config.of(compose("fast_scnn", data="camvid"))
    assert (taken.seed, taken.schedule.warmup, taken.optim.accumulate) == (0, 0, 1)
    assert (taken.data.val, taken.data.batch_size, taken.data.workers) == (None, 8, 0)
    assert taken.data.train == kept.data.train


def test_run_folders_that_do_not_fit(refused: Refused, tree: Path, trained: Path, tmp_path: Path) -> None:
    data = [*STUDENT, "--root", tree, *TINY]
    assert "nothing to resume" in refused("train", *data, "--out", tmp_path / "new", "--resume")
    assert "already holds a run" in refused("train", *data, "--out", trained)
    assert "already trained 2 steps" in refused("train", trained, "--resume")
    (tmp_path / "file").write_text("")
    assert "no folder" in refused("train", *data, "--out", tmp_path / "file")
    assert "no folder" in refused("train", *data, "--out", tmp_path / "file" / "run")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "state.pth").write_text("no state")
    assert "damaged" in refused("train", *data, "--out", tmp_path / "damaged", "--resume")
    for state in ({"a": 1}, [1, 2]):
        torch.save(state, tmp_path / "damaged" / "state.pth")
        assert "is no state of a run" in refused("train", *data, "--out", tmp_path / "damaged", "--resume")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_file_that_cannot_be_read(refused: Refused, own_tree: Path, no_folder: Path, kind: str) -> None:
    """A folder in its place: a file without permission can be read by root, as whom tests may run."""
    file = own_tree / f"{kind}s" / "val" / "0.png"
    file.unlink()
    file.mkdir()
    line = refused("train", *STUDENT, "--root", own_tree, "--out", no_folder, *TINY)
    assert f"{file}: the {kind} cannot be read (Is a directory)" in line
    assert not no_folder.parent.exists()


def test_a_damaged_run_folder(
    refused: Refused, segkd: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, longer = tmp_path / "run", ["--resume", "--set", "schedule.steps=3"]
    shutil.copytree(trained, run)
    monkeypatch.chdir(tmp_path)
    (run / "state.pth").write_bytes((trained / "state.pth").read_bytes()[:1000])
    assert "cannot read run/state.pth: it is damaged" in refused("train", "run", *longer)
    shutil.copy(trained / "state.pth", run)
    (run / "student_best.pth").unlink()
    (run / "student_best.pth").mkdir()
    assert "run/student_best.pth: Is a directory" in refused("train", "run", *longer)
    (run / "student_best.pth").rmdir()
    for damaged in ("{", "[]"):
        shutil.copy(trained / "state.pth", run)
        (run / "metrics.json").write_text(damaged)
        assert segkd("train", "run", "--resume").code == 0
        assert json.loads((run / "metrics.json").read_text())["steps"] == 2


def test_several_processes_without_a_launcher_are_refused(
    refused: Refused, tree: Path, no_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert "start them with torchrun or srun, or unset it" in refused(
        "train", *STUDENT, "--root", tree, "--out", no_folder, *TINY
    )
    assert not no_folder.parent.exists()


def test_a_failed_start_leaves_a_folder_as_it_was_but_for_an_old_log(
    refused: Refused, own_tree: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.jsonl").write_text("old\n")
    (run / "mine.txt").write_text("keep")
    (own_tree / "images" / "train" / "5.png").write_text("no image")
    steps = ["--set", "schedule.steps=3", "--set", "schedule.val_interval=3"]
    argv = ["train", *STUDENT, "--root", own_tree, "--out", run, *TINY, *steps]
    refused(*argv)  # by the preflight, which touches nothing
    assert sorted(p.name for p in run.iterdir()) == ["log.jsonl", "mine.txt"]
    refused(*argv, "--skip-preflight")
    assert [p.name for p in run.iterdir()] == ["mine.txt"]


def test_files_that_do_not_fit_eval(
    refused: Refused, tree: Path, trained: Path, exported: Path, tmp_path: Path
) -> None:
    weights = trained / "student_last.pth"
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").write_text("")
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:100_000])
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    for file, message in (
        (trained / "studnt_last.pth", "did you mean 'student_last.pth'?"),
        (trained, "is a folder"),
        (trained / "config.py", "neither weights (.pth) nor a file that predicts"),
        (trained / "state.pth", "student_last.pth and student_best.pth beside it"),
        (tmp_path / "text.pth", "text.pth"),
        (tmp_path / "empty.pth", "empty.pth"),
        (tmp_path / "other.pth", "another network than FastSCNN"),
        (tmp_path / "text.onnx", "text.onnx"),
        (tmp_path / "cut.onnx", "cut.onnx"),
    ):
        assert message in refused("eval", trained, file), file
    assert "given twice" in refused("eval", trained, weights, weights)
    assert "train, val, test" in refused("eval", trained, weights, "--split", "tset")
    assert "7 classes, but CamVid has 11" in refused("eval", *_seven_classes(tree, tmp_path))
    assert "is a folder" in refused("eval", trained, weights, "--json", tmp_path)
    assert "is no folder" in refused("eval", trained, weights, "--json", tmp_path / "text.pth" / "x.json")


def _seven_classes(tree: Path, tmp_path: Path) -> list[object]:
    """A file of a network of 7 classes, and a config that says so, on CamVid."""
    from segkd.models import create

    torch.save(create("fast_scnn", num_classes=7).state_dict(), tmp_path / "seven.pth")
    return [*STUDENT, "--root", tree, "--set", "model.network.num_classes=7", tmp_path / "seven.pth"]


def test_an_onnx_file_of_another_size(refused: Refused, trained: Path, exported: Path) -> None:
    line = refused("eval", *SYNTHETIC, exported, "--set", "data.dataset.size=64,128")
    assert "student.onnx takes images of 64x96 (HxW), but those of SyntheticStreets are 64x128" in line
    assert "--resize" in line
    assert "not 64x64" in refused("bench", trained, exported, "--size", "64x64")


def test_a_wrong_file_or_place_leaves_no_onnx(
    refused: Refused, trained: Path, exported: Path, int8: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    size = ["--size", "64x96"]
    out = tmp_path / "out.onnx"
    assert "text.pth" in refused("export", trained, "--weights", tmp_path / "text.pth", *size, "--out", out)
    assert "nowhere" in refused("export", trained, "--weights", tmp_path / "nowhere.pth", *size, "--out", out)
    weights = trained / "student_last.pth"
    assert "ends in .onnx" in refused("export", trained, "--weights", weights, *size, "--out", tmp_path / "a.txt")
    seven = _seven_classes(tmp_path, tmp_path)[-1]
    assert "does not fit FastSCNN" in refused("export", trained, "--weights", seven, *size, "--out", out)
    assert "no ONNX file" in refused("quantize", trained, weights, "--out", out)
    assert "int8 already" in refused("quantize", trained, int8, "--out", out)
    assert "float32 file itself" in refused("quantize", trained, exported, "--out", exported)
    assert "percentile" in refused("quantize", trained, exported, "--out", out, "--method", "percentil")
    assert "nowhere" in refused("quantize", trained, exported, "--out", out, "--data", tmp_path / "nowhere")
    assert "has 19" in refused("quantize", "--student", "fast_scnn", "--data", "cityscapes", exported, "--out", out)
    assert "--split" in refused("quantize", trained, exported, "--out", out, "--weights", weights)
    assert not list(tmp_path.glob("*.onnx"))
    assert not list(tmp_path.glob(".*"))


def test_images_that_cannot_be_segmented(refused: Refused, trained: Path, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((40, 50, 3), np.uint8))
    model = ["--model", exported]
    assert "text.jpg" in refused("predict", tmp_path / "text.jpg", *model)
    (tmp_path / "empty").mkdir()
    assert "holds no image" in refused("predict", tmp_path / "empty", *model)
    assert "did you mean 'image.png'?" in refused("predict", tmp_path / "imag.png", *model)
    link = tmp_path / "link.png"
    link.symlink_to(image)
    for own in (image, link):
        before = image.read_bytes()
        assert "it is the image itself" in refused("predict", image, *model, "--out", own)
        assert image.read_bytes() == before
    assert "the overlay is a PNG" in refused("predict", image, *model, "--out", tmp_path / "overlay.jpg")
    assert "times no files" in refused("bench", "blocks", exported)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "image.png", "link.png", "text.jpg"]


def test_a_folder_that_is_no_demo_is_not_emptied(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep")
    assert "choose another --out" in refused("demo", "--out", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep"
