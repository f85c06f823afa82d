"""What the tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from layouts import write_camvid

SIZE = (64, 96)
#: the flags of Fast-SCNN on CamVid (with --root), alone and taught; of the same on synthetic streets
STUDENT = ("--student", "fast_scnn", "--data", "camvid")
DISTILL = (*STUDENT, "--teacher", "espnet_q8_camvid@data/espnet_p_2_q_8_camvid.pth", "--recipe", "kd_cwd")
SYNTHETIC = ("--student", "fast_scnn", "--data", "synthetic")
TAUGHT = (*SYNTHETIC, "--teacher", "deeplabv3plus_r18@work/teacher.pth", "--recipe", "kd_cwd")
COUNTS = {"train": 6, "val": 2, "test": 2}
TINY = [
    *("--set", "data.augment.crop_size=64,96"),
    *("--set", "data.batch_size=2"),
    *("--set", "data.workers=0"),
    *("--set", "schedule.steps=2"),
    *("--set", "schedule.warmup=0"),
    *("--set", "schedule.val_interval=1"),
]


class Result(NamedTuple):
    """What a command said and returned."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]
Refused = Callable[..., str]


def write_tree(root: Path) -> Path:
    """A small tree in CamVid's layout."""
    return write_camvid(root, COUNTS, SIZE)


def loss_records(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log that hold losses (others hold scores and gradients)."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in records if "loss" in record]
