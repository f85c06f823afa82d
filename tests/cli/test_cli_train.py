"""``segkd train``: run files, resuming, defaults, and what it says."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_kit import DISTILL, STUDENT, TINY, Refused, Run, loss_records

from segkd.binding import Bind
from segkd.cli.train import _tell_way_on, _term_warnings_as_lines
from segkd.errors import UserError
from segkd.supervision import _check_term
from segkd.training.configfile import load_config
from segkd.training.loop import train
from segkd.training.overrides import optional_keys
from segkd.training.watch import TermWarning
from segkd.workbench.composing import compose


def test_a_run_is_told_and_kept(segkd: Run, tree: Path, tmp_path: Path) -> None:
    result = segkd("train", *STUDENT, "--root", tree, *TINY)
    folder = tmp_path / "work" / "fast_scnn_camvid"
    assert result.code == 0
    assert result.err == ""  # mmengine warns on the console unless it is kept from it
    first, *lines = result.out.splitlines()
    assert first.startswith("preflight (")
    assert lines[0].startswith("on cpu (")
    assert lines[0].endswith("2 steps of 2 images, into work/fast_scnn_camvid")
    starts = [line[:14] for line in lines if line.startswith("  step")]
    assert starts == ["  step 1/2  lr", "  step 1: val ", "  step 2/2  lr", "  step 2: val "]
    assert lines[-1] == "weights, best on val: work/fast_scnn_camvid/student_best.pth"
    assert all(line.strip() for line in lines)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"{metrics['val_last']['mIoU']:.2f} at the last step" in result.out
    assert set(metrics["val_last"]) == {"mIoU", "mAcc", "aAcc"}
    kept = {"config.py", "curves.png", "log.jsonl", "metrics.json", "state.pth", "student_best.pth", "student_last.pth"}
    kept |= {"val_images"}
    assert {p.name for p in folder.iterdir()} == kept


def test_a_run_goes_on_by_its_folder_alone_and_tells_what_changed(segkd: Run, tree: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert segkd("train", *STUDENT, "--root", tree, "--out", run, *TINY).code == 0
    result = segkd("train", run, "--resume", "--set", "schedule.steps=3", "--set", "optim.optimizer.lr=1e-4")
    assert result.code == 0, result.err
    assert "resuming with another schedule.steps: 3, it was 2" in result.out
    lr = compose("fast_scnn", data="camvid")["optim"]["optimizer"]["lr"]
    assert f"resuming with another optim.optimizer.lr: 0.0001, it was {lr}" in result.out
    assert "resuming with another model" not in result.out
    assert torch.load(run / "state.pth", weights_only=True)["step"] == 3
    assert [record["step"] for record in loss_records(run)] == [2, 3]


def test_a_logger_is_an_option(refused: Refused, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert refused("train", *STUDENT, "--root", tree, "--logger", "wandb", *TINY).endswith(
        "engine.logger='wandb' needs a package that is not installed: pip install wandb"
    )


def test_a_term_that_teaches_nothing_is_told_as_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with _term_warnings_as_lines():
        warnings.warn("step 3: the term loss_bind_x teaches nothing", TermWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="another"):
            warnings.warn("another", UserWarning, stacklevel=1)
    said = capsys.readouterr()
    assert said.out == "  warning, step 3: the term loss_bind_x teaches nothing\n"
    assert "loss_bind_x" not in said.err


class StopAfterFirst:
    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == 1:
            raise KeyboardInterrupt


def test_an_interrupted_run_knows_its_best_score(tree: Path, tmp_path: Path) -> None:
    """Else a resumed run would put a worse checkpoint in the place of the best."""
    cfg = compose("fast_scnn", data="camvid", root=tree, overrides=TINY[1::2])
    with pytest.raises(KeyboardInterrupt):
        train(cfg, tmp_path / "run", hooks=[StopAfterFirst()])
    record = next(json.loads(x) for x in (tmp_path / "run" / "log.jsonl").read_text().splitlines() if "val" in x)
    best = torch.load(tmp_path / "run" / "state.pth", weights_only=True)["best"]["val"]
    assert best == {"mIoU": record["val"]["mIoU"], "step": 1}


def test_an_interrupt_names_the_way_on(segkd: Run, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: Any, **kwargs: Any) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "state.pth").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("segkd.training.loop.train", stopped)
    result = segkd("train", *STUDENT, "--root", tree, "--out", tmp_path / "run", "--skip-preflight", *TINY)
    assert result.code == 130
    assert result.err == "segkd train: interrupted\n"
    assert result.out == f"to go on: segkd train {tmp_path / 'run'} --resume\n"


@pytest.mark.parametrize(
    ("files", "first_stage", "message"),
    [
        (["config.py", "state.pth"], False, "to go on: segkd train 'a run' --resume"),
        (["config.py"], True, "to go on: segkd train 'a run' --resume"),
        (["config.py"], False, "nothing to go on from: a run holds no state yet, the first one comes with the first"),
    ],
)
def test_the_way_on_is_there_with_a_state_or_in_a_first_stage(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: list[str],
    first_stage: bool,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a run").mkdir()
    for name in files:
        (Path("a run") / name).touch()
    _tell_way_on({"model": {"binds": {"own": {"first_stage": {"steps": 3}} if first_stage else {}}}}, Path("a run"))
    assert capsys.readouterr().out.startswith(message)


def test_a_full_disk_names_the_file_and_the_way_on(
    segkd: Run, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(content: Any, file: Any) -> None:
        if (tmp_path / "run" / "state.pth").exists():
            raise OSError(28, "No space left on device")
        save(content, file)

    save = torch.save
    monkeypatch.setattr(torch, "save", full)
    argv = ["train", *STUDENT, "--root", tree, "--out", tmp_path / "run", *TINY]
    result = segkd(*argv)
    assert result.code == 2
    assert result.err == f"segkd train: error: {tmp_path / 'run' / 'state.pth'}: No space left on device\n"
    assert result.out.splitlines()[-1] == f"to go on: segkd train {tmp_path / 'run'} --resume"
    monkeypatch.undo()
    assert segkd("train", tmp_path / "run", "--resume").code == 0


def test_no_worker_outlives_its_run(segkd: Run, tree: Path, tmp_path: Path) -> None:
    """Left to the garbage collector, each would be waited for 5 s in the middle of what comes next."""
    argv = ["train", *STUDENT, "--root", tree, "--out", tmp_path / "run", *TINY, "--set", "data.workers=1"]
    assert segkd(*argv).code == 0
    assert multiprocessing.active_children() == []


def test_names_that_an_override_may_add_are_those_that_exist() -> None:
    assert optional_keys()["model.binds.*"] == set(inspect.signature(Bind).parameters)
    with pytest.raises(UserError) as error:
        _check_term("main", {"unknown": 1})
    assert str(sorted(optional_keys()["model.supervision.*"])) in str(error.value)


def test_overrides_add_a_bind_and_a_clip(segkd: Run, tree: Path, trained: Path, tmp_path: Path) -> None:
    """A whole new term and a section that the config lacks, from the command line alone."""
    bind = "dict(student='fusion', teacher='head', loss=dict(type='at'))"
    teacher = f"dict(type='fast_scnn', num_classes=11, weights={str(trained / 'student_last.pth')!r})"
    changes = [
        f"model.teacher={teacher}",
        f"model.binds.deep={bind}",
        "model.binds.pixel.masked=true",
        "model.binds.channel.student=classifier",
        "optim.clip_grad.max_norm=1",
        "engine.log_interval=1",
    ]
    sets = [part for change in changes for part in ("--set", change)]
    run = tmp_path / "run"
    words = ["--root", tree, "--out", run, *TINY, *sets]
    result = segkd("train", *DISTILL, *words, "--skip-preflight")  # a teacher of two steps is none
    assert result.code == 0, result.err
    terms = {"loss_bind_pixel", "loss_bind_channel", "loss_bind_deep", "loss_aux_detail"}
    assert terms <= loss_records(run)[0].keys()
    assert load_config(str(run / "config.py"))["optim"]["clip_grad"] == {"max_norm": 1}


def test_plain_flags_set_their_keys(segkd: Run, tree: Path, tmp_path: Path) -> None:
    flags = ["--lr", "0.002", "--batch", "3", "--epochs", "2", "--device", "cpu"]
    small = ["--set", "data.augment.crop_size=64,96", "--set", "schedule.warmup=0"]
    result = segkd("train", *STUDENT, "--root", tree, "--out", tmp_path / "run", *small, *flags)
    assert result.code == 0, result.err
    cfg = load_config(tmp_path / "run")
    assert cfg["optim"]["optimizer"]["lr"] == 0.002
    assert (cfg["data"]["batch_size"], cfg["engine"]["device"]) == (3, "cpu")
    assert cfg["schedule"]["epochs"] == 2
    assert "steps" not in cfg["schedule"]
    assert torch.load(tmp_path / "run" / "state.pth", weights_only=True)["step"] == 4  # 6 images


def test_steps_and_epochs_exclude_one_another(segkd: Run, refused: Refused, tree: Path) -> None:
    assert "engine.device 'gpu' is no device" in refused("train", *STUDENT, "--root", tree, *TINY, "--device", "gpu")
    result = segkd("train", *STUDENT, "--root", tree, "--steps", 1, "--epochs", 1)
    assert result.code == 2
    assert "not allowed with" in result.err
