"""A process that dies ends the others, with its reason; SLURM's variables stand for torchrun's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sampling import sampled
from test_distributed import free_port, small
from torch.distributed import HashStore

from segkd.training import lifeline, processes
from segkd.training.lifeline import Lifeline
from segkd.training.loop import train


def pair() -> tuple[Lifeline, Lifeline]:
    store = HashStore()
    return Lifeline(store, 0, 2), Lifeline(store, 1, 2)


def test_all_hear_why_one_has_ended_and_of_the_first_alone() -> None:
    first, second = pair()
    assert first.reason() is None
    second.fail(OSError("the disk is full"))
    first.fail(RuntimeError("connection closed by peer"))
    assert first.reason() == "process 1 has ended: OSError: the disk is full"
    assert second.reason() is None


def test_one_that_is_silent_is_taken_for_dead_and_one_that_is_done_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "PATIENCE", 0.2)
    first, second = pair()
    second._beat("1")
    assert first.reason() is None
    time.sleep(0.3)
    assert "process 1 was not heard of for" in str(first.reason())
    second._beat("2")
    assert first.reason() is None
    second.finish()
    assert first.reason() is None
    time.sleep(0.3)
    assert first.reason() is None


def test_the_one_with_the_store_leaves_last_but_does_not_wait_for_the_dead() -> None:
    first, second = pair()
    leaving = threading.Thread(target=first.leave, args=(5.0,))
    leaving.start()
    leaving.join(0.2)
    assert leaving.is_alive()
    second.leave(5.0)
    leaving.join(0.5)
    assert not leaving.is_alive()
    start = time.monotonic()
    pair()[0].leave(1.0)
    assert 1 <= time.monotonic() - start < 2


class Dies:
    """Ends the second process before its third step."""

    def __init__(self, by: str) -> None:
        self.by = by

    def before_train_iter(self, training: Any, batch_idx: int, data_batch: Any = None) -> None:
        if batch_idx == 2 and processes.rank() == 1:
            if self.by == "signal":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the disk is full")


def on_rank(environment: dict[str, str], run: str, by: str, said: str) -> None:
    os.environ.update(environment)
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 2)
    train(small("plain", schedule=dict(steps=500, val_interval=500)), run, hooks=[Dies(by)])


@pytest.mark.parametrize("by", sampled(["signal", "error"], 2))
def test_a_process_that_dies_ends_the_other_within_a_minute(by: str, tmp_path: Path) -> None:
    multiprocessing.set_forkserver_preload(["segkd.training.loop"])
    context, port = multiprocessing.get_context("forkserver"), str(free_port())
    # no agent as torchrun's looks after them
    slurm = dict(SLURM_STEP_NUM_TASKS="2", SLURM_STEP_NODELIST="localhost", MASTER_PORT=port)
    started = []
    for rank in range(2):
        environment = slurm | dict(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank))
        arguments = (environment, str(tmp_path / "run"), by, str(tmp_path / f"said_{rank}"))
        started.append(context.Process(target=on_rank, args=arguments))
        started[-1].start()
    started[1].join(60)
    dead = time.monotonic()
    started[0].join(60)
    took = time.monotonic() - dead
    for process in started:
        process.kill()
    assert took < 60
    assert started[0].exitcode == 1
    said = (tmp_path / "said_0").read_text()
    assert {"signal": "another process of this run was killed", "error": "process 1 has ended: OSError"}[by] in said


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("a", "a"),
        ("a,b", "a"),
        ("n[07-09,12]", "n07"),
        ("gpu-a[3,5],b1", "gpu-a3"),
        ("n[1-2]-ib", "n1-ib"),
        ("n-1.x,n", "n-1.x"),
    ],
)
def test_slurms_variables_are_understood(monkeypatch: pytest.MonkeyPatch, nodes: str, first: str) -> None:
    for key in (*processes.LAUNCH, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(key, raising=False)
    for key, value in dict(PROCID="3", LOCALID="1", STEP_NODELIST=nodes, JOB_ID="40123", NTASKS="4").items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    assert not processes.is_distributed()  # a batch script, or `srun --pty bash`: no step of several tasks
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    found = processes.launch()
    assert processes.is_distributed()
    assert processes.rank() == 3
    assert [found[key] for key in processes.LAUNCH] == ["3", "4", "1", first, "20123"]
    monkeypatch.setenv("WORLD_SIZE", "1")  # torchrun's own, in a step
    assert not processes.is_distributed()
