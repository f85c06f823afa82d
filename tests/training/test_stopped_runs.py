"""Runs that a full disk or a kill stops at any write: they go on from there, and end as if nothing had been."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_distributed import small
from test_training import Watch

from segkd.datasets import SegmentationDataset
from segkd.datasets.base import Sample
from segkd.datasets.transforms import TrainTransform
from segkd.errors import UserError
from segkd.files import UNFINISHED
from segkd.training.log import append, trim_log, validations
from segkd.training.loop import train
from segkd.training.state import BEST, LAST, STATE, save_atomically

Failure = Callable[[], BaseException]


class Noise(SegmentationDataset):
    """Images and labels that take no time to make."""

    class_names = tuple(map(str, range(11)))
    palette = ((0, 0, 0),) * 11

    def __init__(self, length: int = 12, split: str = "train") -> None:
        self.length, self.split = length, split

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        draw = np.random.default_rng([index, len(self.split)])
        return Sample(draw.integers(0, 256, (32, 48, 3), np.uint8), draw.integers(0, 11, (32, 48), np.uint8))


def tiny() -> dict[str, Any]:
    """A run of four steps with a validation after two."""
    cfg = small("plain")
    cfg["data"] |= dict(dataset=dict(type=Noise), augment=dict(type=TrainTransform, crop_size=(32, 32)))
    return cfg


def full() -> BaseException:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, at: int, failure: Failure) -> Iterator[list[str]]:
    """A context in which the ``at``-th file that is to get its final name does not; the names so far."""
    names: list[str] = []
    plain = Path.replace

    def replace(self: Path, target: Path) -> Path:
        names.append(target.name)
        if len(names) == at:
            raise failure()
        return plain(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        yield names


def ended(run: Path) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
    """What a finished run holds: tensors by file and name, the log without times, the scores."""
    tensors = {f"{name} {key}": value for name in (LAST, BEST) for key, value in _load(run / name).items()}
    tensors |= _load(run / STATE)["model"]
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in line.items() if key != "seconds_per_step"} for line in lines]
    metrics = json.loads((run / "metrics.json").read_text())
    return tensors, log, {key: metrics[key] for key in ("steps", "val_last", "val_best")} | _load(run / STATE)["best"]


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_a_run_stopped_at_any_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(monkeypatch, 0, full) as names:
        train(tiny(), tmp_path / "whole")
    whole = ended(tmp_path / "whole")
    assert names.count(STATE) >= 3
    for at, name in enumerate(names, 1):
        run, failure = tmp_path / str(at), full if at % 2 else KeyboardInterrupt
        with failing(monkeypatch, at, failure), pytest.raises((OSError, KeyboardInterrupt)) as caught:
            train(tiny(), run)
        if failure is full:
            assert Path(caught.value.filename).name == name
        held = {path.name for path in run.iterdir()} if run.exists() else set()
        assert not any(UNFINISHED in other for other in held)
        assert STATE in held or not {BEST, LAST} & held
        train(tiny(), run, resume=STATE in held)
        tensors, log, scores = ended(run)
        assert tensors.keys() == whole[0].keys()
        assert all(torch.equal(value, whole[0][key]) for key, value in tensors.items()), name
        assert (log, scores) == whole[1:]
        with pytest.raises(UserError, match="already trained 4 steps"):
            train(tiny(), run, resume=True)


class StopInValidation:
    """Ctrl-C while the validation after the second step looks at its images."""

    def after_val_iter(self, training: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        if training.iter == 2:
            raise KeyboardInterrupt


def test_a_validation_that_was_stopped_is_done_when_the_run_goes_on(tmp_path: Path) -> None:
    train(tiny(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path / "run", hooks=[StopInValidation()])
    train(tiny(), tmp_path / "run", resume=True)
    assert ended(tmp_path / "run")[1:] == ended(tmp_path / "whole")[1:]


def test_what_a_killed_run_was_writing_is_gone_when_it_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), run, hooks=[Watch(crash_at=3)])
    (run / f".state{UNFINISHED}a1b2c3d4.pth").write_text("half")
    train(tiny(), run, resume=True)
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Inside, the system lets no file grow beyond that many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_state_that_does_not_fit_says_why(tmp_path: Path) -> None:
    """Given a path, torch.save would say "unexpected pos 832 vs 726"."""
    save_atomically({"a": torch.ones(3)}, tmp_path / STATE)
    with no_file_above(10_000), pytest.raises(OSError, match="too large") as caught:
        save_atomically({"a": torch.zeros(100_000)}, tmp_path / STATE)
    assert caught.value.filename == str(tmp_path / STATE)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    assert torch.equal(_load(tmp_path / STATE)["a"], torch.ones(3))


def test_an_interrupt_while_a_state_is_written_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save would make it "unexpected pos 5152192 vs 5152084"."""

    class Stream(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() > 10_000:
                raise KeyboardInterrupt
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda self, mode: Stream(self, mode))
    with pytest.raises(KeyboardInterrupt):
        save_atomically({str(k): torch.zeros(1000) for k in range(9)}, tmp_path / STATE)
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_does_not_fit_is_not_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append(log, {"step": 1, "loss": 2.0})
    before = log.read_text()
    with no_file_above(len(before) + 5), pytest.raises(OSError, match="too large") as caught:
        append(log, {"step": 2, "loss": 1.0})
    assert caught.value.filename == str(log)
    assert log.read_text() == before


@pytest.mark.parametrize(
    "torn", ['{"step": 2, "lo', '{"step": 2, "loss": 1.0}', "\x00\x00\x00", "2\n", "[1]\n", "{}\n"]
)
def test_a_torn_line_is_dropped(tmp_path: Path, torn: str) -> None:
    log = tmp_path / "log.jsonl"
    append(log, {"step": 1, "val": {"mIoU": 3.0}})
    before = log.read_text()
    log.write_text(before + torn)
    trim_log(tmp_path, 2)
    assert log.read_text() == before
    assert validations(tmp_path, 1) == [{"step": 1, "val": {"mIoU": 3.0}}]
    assert validations(tmp_path, 2) == []
