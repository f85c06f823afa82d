"""Short CPU runs whose weights and logged values are frozen in tests/golden/runs.json.

``python tests/engine/golden_runs.py`` records them anew: only when a fault that changes them has been mended.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[i]) for i in (0, 1, 2)]

from processes import two_processes

from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform
from segkd.distiller import Distiller
from segkd.models.fast_scnn import FastSCNN
from segkd.segmentor import Segmentor
from segkd.supervision import AuxHead
from segkd.training.loop import train

FILE = Path(__file__).parents[1] / "golden" / "runs.json"
STEPS = 6
SUPERVISION = dict(main={}, aux=dict(tap="learning_to_downsample", head=dict(type=AuxHead), weight=0.4))
LOGITS = dict(student="classifier", teacher="classifier")
DEEP = dict(student="fusion", teacher="fusion", connector=dict(type="conv1x1"))
KD_CWD = dict(kd=dict(LOGITS, loss=dict(type="kd")), deep=dict(DEEP, loss=dict(type="cwd"), weight=3.0))
SKD = dict(
    pixel=dict(LOGITS, loss=dict(type="skd_pixel")),
    pair=dict(student="fusion", teacher="fusion", loss=dict(type="skd_pair")),
    holistic=dict(LOGITS, loss=dict(type="skd_holistic"), weight=0.1),
)
FT = dict(
    factors=dict(
        student="fusion", teacher="fusion", loss=dict(type="ft"), weight=0.5,
        first_stage=dict(steps=3, optimizer=dict(type="SGD", lr=0.01)),
    )
)  # fmt: skip
CRD = dict(contrast=dict(DEEP, loss=dict(type="crd", num_classes=11, nce_k=256, feat_dim=16)))
CLIPPED = dict(accumulate=2, clip_grad=dict(max_norm=1.0))
#: name -> binds, the optim section's additions, the engine section's additions
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "alone": ({}, {}, {}),
    "kd_cwd": (KD_CWD, {}, {}),
    "skd_with_critic": (SKD, {}, {}),
    "ft_with_first_stage": (FT, {}, {}),
    "crd": (CRD, {}, {}),
    "accumulated_and_clipped": (KD_CWD, CLIPPED, {}),
    "bf16": (KD_CWD, {}, dict(precision="bf16", channels_last=True)),
    "resumed_at_3": (KD_CWD, {}, {}),
    "two_processes": (KD_CWD, {}, {}),
}


def config(name: str) -> dict[str, Any]:
    binds, optim, engine = RUNS[name]
    student = dict(type=FastSCNN, num_classes=11)
    model: dict[str, Any] = dict(type=Segmentor, network=student, supervision=SUPERVISION)
    if binds:
        model = dict(
            type=Distiller, student=student, supervision=SUPERVISION, teacher=dict(type=FastSCNN, num_classes=11),
            binds=binds, untrained_teacher=True,
        )  # fmt: skip
    return dict(
        model=model,
        data=dict(
            dataset=dict(type=SyntheticStreets, size=(48, 64), cache=True),
            train=dict(length=10), val=dict(split="val", length=3),
            augment=dict(type=TrainTransform, crop_size=(48, 64)), batch_size=4, workers=0,
        ),
        schedule=dict(steps=STEPS, val_interval=3, warmup=2),
        optim=dict(optimizer=dict(type=torch.optim.AdamW, lr=1e-3)) | optim,
        engine=dict(log_interval=1, gradient_interval=2) | engine,
        seed=5,
    )  # fmt: skip


class CrashError(Exception):
    """Ends a run before its fifth step."""


def crash_at_4(cfg: dict[str, Any], run: Path) -> None:
    """Train until a crash; the state that stays is that of step 3."""

    class Crashing:
        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            if runner.iter == 4:
                raise CrashError

    try:
        train(cfg, run, hooks=[Crashing()])
    except CrashError:
        return
    raise AssertionError("the run did not crash")


def on_rank(rank: int, port: int, name: str, run: str) -> None:
    torch.set_num_threads(1)
    os.environ |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", RANK=str(rank))
    train(config(name), Path(run))


def observe(name: str, run: Path) -> dict[str, Any]:
    """Checksum of the student's weights after the run, and every record of its log."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if name == "two_processes":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            two_processes(on_rank, port, name, str(run))
        elif name == "resumed_at_3":
            crash_at_4(config(name), run)
            train(config(name), run, resume=True)
        else:
            train(config(name), run)
    finally:
        torch.set_num_threads(threads)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in line.items() if key != "seconds_per_step"} for line in lines]
    return {"student": checksum(run / "student_last.pth"), "log": log}


def checksum(file: Path) -> str:
    """sha256 of all tensors of a weights file, by name."""
    found = hashlib.sha256()
    for name, value in sorted(torch.load(file, weights_only=True).items()):
        found.update(name.encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def machine() -> dict[str, str]:
    """What the last digit depends on."""
    cpu = next(
        (x.partition(":")[2].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), "?"
    )
    return {"torch": torch.__version__, "vectors": torch.backends.cpu.get_cpu_capability(), "cpu": cpu}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: observe(name, Path(folder) / name) for name in RUNS}
    FILE.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")
