"""``tools/slurm_train.sh`` with an srun and an scontrol of our own: the command line, resuming, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "slurm_train.sh"
CONFIG = "my config.py"
PARTS = ("--student", "stdc1", "--data", "cityscapes")
SRUN = """#!/bin/bash
{ echo "$MASTER_ADDR $MASTER_PORT ${SRUN_CPUS_PER_TASK:-none}"; printf '%s\\n' "$@"; } > "$SEEN/srun"
trap 'echo terminated > "$SEEN/end"; exit 143' TERM
[ -z "$KEPT" ] || touch "$KEPT"
mv "$SEEN/srun" "$SEEN/started"
for _ in $(seq "$PATIENCE"); do sleep 0.05; done
exit "$CODE"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'node07\\nnode08\\n'; else echo "$@" > "$SEEN/requeued"; fi
"""


class Job:
    """The script as a SLURM job of two nodes with four tasks each."""

    def __init__(self, folder: Path) -> None:
        self.seen = folder / "seen"
        self.run = folder / "my run"
        for made in (self.seen, folder / "bin"):
            made.mkdir()
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SEEN": str(self.seen),
            "PATIENCE": "0", "CODE": "0", "KEPT": "",
            "SLURM_JOB_ID": "1234567", "SLURM_JOB_NODELIST": "node[07-08]", "SLURM_NTASKS_PER_NODE": "4",
            "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "8",
        }  # fmt: skip

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), *words], env=self.environment | environment, text=True, stderr=subprocess.PIPE
        )

    def finish(self, *words: str, **environment: str) -> int:
        with self.start(*words, **environment) as job:
            return job.wait(60)

    def command(self) -> list[str]:
        return (self.seen / "started").read_text().splitlines()[1:]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_every_task_trains_the_config_with_its_overrides(job: Job) -> None:
    assert job.finish(CONFIG, str(job.run), "--set", "model.student=dict(type='a b')") == 0
    assert job.command() == [
        "--kill-on-bad-exit=1", "python", "-m", "segkd", "train", CONFIG, "--out", str(job.run),
        "--set", "model.student=dict(type='a b')",
    ]  # fmt: skip
    assert (job.seen / "started").read_text().splitlines()[0] == "node07 34567 8"  # 20000 + 1234567 % 20000
    assert not (job.seen / "requeued").exists()


def test_a_run_can_be_composed_by_options(job: Job) -> None:
    assert job.finish(str(job.run), *PARTS) == 0
    assert job.command()[4:] == ["train", "--out", str(job.run), *PARTS]


@pytest.mark.parametrize("kept", ["state.pth", "first_stage_factors.pth"])
def test_a_run_that_has_kept_something_goes_on(job: Job, kept: str) -> None:
    job.run.mkdir()
    (job.run / "log.jsonl").touch()
    assert job.finish(CONFIG, str(job.run)) == 0
    assert "--resume" not in job.command()
    (job.run / kept).touch()
    assert job.finish(CONFIG, str(job.run), PYTHON="python3.12") == 0
    assert job.command()[-1] == "--resume"
    assert job.command()[1] == "python3.12"


@pytest.mark.parametrize(
    ("number", "keeps", "code", "requeued"),
    [
        (signal.SIGUSR1, True, 143, True),
        (signal.SIGUSR1, False, 2, False),  # else it would begin anew for ever
        (signal.SIGTERM, True, 143, False),
    ],
)
def test_a_signal_ends_the_training_and_the_time_limit_queues_it_again(
    job: Job, number: signal.Signals, keeps: bool, code: int, requeued: bool
) -> None:
    job.run.mkdir()
    state = job.run / "state.pth"
    state.touch()
    os.utime(state, (0, 0))
    with job.start(CONFIG, str(job.run), PATIENCE="400", KEPT=str(state) if keeps else "") as running:
        until = time.monotonic() + 30
        while not (job.seen / "started").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        running.send_signal(number)
        assert running.wait(15) == code
    assert (job.seen / "end").read_text() == "terminated\n"
    assert (job.seen / "requeued").exists() is requeued
    if requeued:
        assert (job.seen / "requeued").read_text() == "requeue 1234567\n"


def test_a_training_that_fails_stays_ended(job: Job) -> None:
    assert job.finish(CONFIG, str(job.run), CODE="2") == 2
    assert not (job.seen / "requeued").exists()


@pytest.mark.parametrize(
    ("words", "changes", "said"),
    [
        ([CONFIG], {}, "give CONFIG and RUN"),
        ([CONFIG, "run"], {"SLURM_JOB_ID": ""}, "start it with sbatch"),
        ([CONFIG, "run"], {"SLURM_GPUS_ON_NODE": "8"}, "4 tasks a node for 8 GPUs"),
    ],
)
def test_what_cannot_train_is_refused_in_one_line(
    job: Job, words: list[str], changes: dict[str, str], said: str
) -> None:
    with job.start(*words, **changes) as running:
        _, error = running.communicate(timeout=60)
    assert running.returncode == 2
    assert len(error.splitlines()) == 1
    assert said in error
    assert not (job.seen / "started").exists()


def test_slurm_reads_the_options_in_the_script() -> None:
    options = [line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"--requeue", "--signal=B:USR1@120", "--open-mode=append"} <= set(options)
    first_command = SCRIPT.read_text().index("\nset -e")
    assert SCRIPT.read_text().rindex("#SBATCH") < first_command  # sbatch stops reading there
