"""Ctrl-C and SIGTERM, sent to real processes: one line, the exit code of the signal, and nothing half-written."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_kit import STUDENT, SYNTHETIC, TINY
from sampling import sampled

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = ["bench", *SYNTHETIC, "--size", "32x64", "--repeats", "1000000"]
MOMENTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5)
CODES = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc what a process has caught")


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    """A command that a failed test leaves running would slow down all that follow."""
    yield
    while STARTED:
        STARTED.pop().kill()


def start(*argv: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The command in a process of its own, as soon as it knows what signals mean."""
    command = [sys.executable, "-m", "segkd", *map(str, argv)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process: subprocess.Popen[str] = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, **pipes)  # type: ignore[call-overload]
    STARTED.append(process)
    wait_for(lambda: catches(process.pid, signal.SIGTERM), process)
    return process


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def catches(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(mask >> (number - 1) & 1)


@linux
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", list(CODES))
def test_a_signal_in_the_first_second_is_one_line(number: signal.Signals, moment: float) -> None:
    """While torch, mmengine and the like are imported; in whose midst an exception is lost, or comes out as another."""
    process = start(*ENDLESS)
    time.sleep(moment)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    code, said = CODES[number]
    assert (process.returncode, err) == (code, f"segkd bench: {said}\n")
    assert out == ""


@linux
@pytest.mark.parametrize("number", sampled(reversed(CODES), 2))
def test_a_signal_while_training_names_the_way_on(number: signal.Signals, tree: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps = ["--set", "schedule.steps=100000", "--set", "schedule.val_interval=2", "--set", "data.workers=1"]
    process = start("train", *STUDENT, "--root", tree, "--out", run, *TINY, *steps)
    wait_for((run / "state.pth").exists, process)
    os.killpg(process.pid, number)  # the workers, too, as a terminal, `timeout` or a cluster does
    out, err = process.communicate(timeout=60)
    code, said = CODES[number]
    assert (process.returncode, err) == (code, f"segkd train: {said}\n")
    assert out.splitlines()[-1] == f"to go on: segkd train {run} --resume"
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]


@linux
@pytest.mark.parametrize("number", sampled(CODES, 2))
def test_one_of_several_processes_says_what_ended_the_run(number: signal.Signals, tmp_path: Path) -> None:
    """As torchrun starts them; it also passes on the signal that they got from the terminal."""
    run = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        together = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]), WORLD_SIZE="2")
    sizes = ["data.dataset.size=32,64", "data.augment.crop_size=32,64", "data.batch_size=4", "data.workers=0"]
    lengths = ["data.train.length=8", "data.val.length=3", "schedule.steps=100000", "schedule.val_interval=2"]
    sets = [part for change in (*sizes, *lengths) for part in ("--set", change)]
    argv = ["train", *SYNTHETIC, "--out", run, *sets]
    processes = [start(*argv, env=together | {"RANK": str(rank)}) for rank in (0, 1)]
    wait_for((run / "student_best.pth").exists, processes[0])
    for _ in range(2):
        for process in processes:
            process.send_signal(number)
    (out, err), other = (process.communicate(timeout=60) for process in processes)
    code, said = CODES[number]
    assert ([process.returncode for process in processes], err) == ([code, code], f"segkd train: {said}\n")
    assert out.splitlines()[-1] == f"to go on: segkd train {run} --resume"
    assert other == ("", "")


@linux
def test_a_second_signal_does_no_harm() -> None:
    process = start(*ENDLESS)
    time.sleep(4)
    for _ in range(20):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "segkd bench: interrupted\n")


@linux
def test_a_signal_that_is_ignored_stays_so() -> None:
    """As under nohup, or for a job in the background of a script."""
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "os.execv(sys.executable, [sys.executable, '-m', 'segkd', *sys.argv[1:]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *ENDLESS], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    STARTED.append(process)
    wait_for(lambda: catches(process.pid, signal.SIGTERM), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "segkd bench: terminated\n")


def test_the_handlers_of_the_calling_program_come_back() -> None:
    from segkd.cli.main import main

    def mine(number: int, frame: object) -> None:
        raise AssertionError(number)

    before = signal.signal(signal.SIGTERM, mine)
    try:
        assert main(["--version"]) == 0
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    assert main(["--version"]) == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is before


class Last:
    """A signal comes while this is finalised, where Python throws exceptions away."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize("number", list(CODES))
def test_a_lost_signal_comes_again(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    from segkd.cli.signals import Signals, Terminated

    def work() -> None:
        with Signals("segkd train"):
            Last(number)
            time.sleep(5)

    before = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt) as caught:
        work()
    assert (caught.type is Terminated) is (number == signal.SIGTERM)
    assert sys.unraisablehook is before
    assert capsys.readouterr().err == ""
