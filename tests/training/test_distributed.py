"""Two processes against one: the same batches, losses, weights and scores; one process writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import two_processes
from test_training import config
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from segkd import models
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.models.base import FeatureInfo, Network
from segkd.segmentor import Segmentor
from segkd.taps import read_taps
from segkd.training import processes
from segkd.training.loop import train
from segkd.training.state import BEST, LAST, STATE

ROOT = Path(__file__).parents[2]
CONNECTED = dict(student="body", teacher="body", connector=dict(type="conv1x1"))


class Plain(Network):
    """Without BatchNorm, whose statistics belong to a process on a CPU, and without dropout."""

    def __init__(self, num_classes: int, width: int = 8, stride: int = 1) -> None:
        super().__init__(num_classes)
        self.body = nn.Conv2d(3, width, 3, stride, 1)
        self.classifier = nn.Conv2d(width, num_classes, 3, 1, 1)
        self.feature_info = (FeatureInfo("body", width, stride), FeatureInfo("classifier", num_classes, stride))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.body(x).tanh())
        return F.interpolate(logits, x.shape[-2:])


BINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "terms": dict(
        channel=dict(student="classifier", teacher="classifier", loss=dict(type="cwd"), weight=3.0),
        relation=dict(
            CONNECTED, loss=dict(type="cirkd", num_classes=11, lambda_memory_pixel=0, lambda_memory_region=0)
        ),
        contrast=dict(CONNECTED, loss=dict(type="crd", num_classes=11, nce_k=256, feat_dim=16)),
    ),
    "critic": dict(own=dict(student="classifier", teacher="classifier", loss=dict(type="skd_holistic"), weight=0.1)),
    "first stage": dict(
        factors=dict(
            student="body",
            teacher="body",
            loss=dict(type="ft"),
            first_stage=dict(steps=3, optimizer=dict(type="SGD", lr=0.01)),
        )
    ),
    "resting": dict(hint=dict(CONNECTED, loss=dict(type="fitnet"), schedule=dict(stop=2))),
}


def small(kind: str, **changes: Any) -> dict[str, Any]:
    cfg = config(schedule=dict(steps=4, val_interval=2, warmup=0))
    stride = 2 if kind == "terms" else 1  # relations of all pixels to all take long
    student = dict(type=Plain, num_classes=11, stride=stride)
    cfg["model"] = dict(type=Segmentor, network=student)
    if BINDS[kind]:
        teacher = Plain(11, 12, stride).eval()  # given as a network: it needs no weights file
        cfg["model"] = dict(type=Distiller, student=student, teacher=teacher, binds=BINDS[kind])
    sgd = dict(type=torch.optim.SGD, lr=0.05)  # Adam would make much of a last digit
    cfg["optim"] = dict(optimizer=sgd, **({"critic": sgd} if kind == "critic" else {})) | changes.pop("optim", {})
    return cfg | changes


def on_rank(rank: int, port: int, kind: str, run: str, changes: dict[str, Any], resume: bool) -> None:
    torch.set_num_threads(1)
    os.environ |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", RANK=str(rank))
    torch.manual_seed(0)  # of the teacher
    train(small(kind, **changes), Path(run), resume=resume)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def train_on_two(kind: str, run: Path, resume: bool = False, **changes: Any) -> None:
    two_processes(on_rank, free_port(), kind, str(run), changes, resume)


def one_process(kind: str, run: Path, resume: bool = False, **changes: Any) -> None:
    torch.manual_seed(0)
    train(small(kind, **changes), run, resume=resume)


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_alike(a: Path, b: Path) -> None:
    """Weights, critics, banks and optimiser; every loss that was logged; every score.

    One process sums a batch in another order than two: on some processors that moved a critic's weight by 3e-5, while
    gradients that are not averaged move it by 3e-4.
    """
    states = [torch.load(run / STATE, weights_only=True) for run in (a, b)]
    assert states[0]["step"] == states[1]["step"]
    for name, value in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: n + m)
    for first, second in zip(log(a), log(b), strict=True):
        assert first.keys() == second.keys()
        assert first.get("warning", "").split(" has ")[0] == second.get("warning", "").split(" has ")[0]
        assert first.get("shared_layer") == second.get("shared_layer")
        local = {"seconds_per_step", "gradients", "shared_gradients"}
        for key in first.keys() - local - {"shared_layer", "first_stage", "warning"}:
            assert second[key] == pytest.approx(first[key], rel=1e-3, abs=1e-5), key


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow) if kind in ("plain", "resting", "terms") else kind for kind in BINDS],
)
def test_two_processes_train_as_one(kind: str, tmp_path: Path) -> None:
    one_process(kind, tmp_path / "one")
    train_on_two(kind, tmp_path / "two")
    assert_alike(tmp_path / "one", tmp_path / "two")
    for name in ("config.py", LAST, BEST, "metrics.json"):
        assert (tmp_path / "two" / name).is_file(), name
    assert json.loads((tmp_path / "two" / "metrics.json").read_text())["processes"] == 2


def on_rank_sharded(rank: int, port: int) -> None:
    os.environ |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", RANK=str(rank))
    torch.manual_seed(0)
    network = models.create("smp", arch="DeepLabV3Plus", encoder="resnet18", num_classes=11)
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    paths = ["encoder.layer4", "encoder.layer1.0.relu#1", ""]
    with processes.process_group():
        torch.manual_seed(rank)  # each its own images
        image = torch.rand(1, 3, 64, 96)
        expected = read_taps(network, paths, image)
        total = sum(weight.numel() for weight in network.parameters())
        processes.shard(network)
        for _ in range(2):
            found = read_taps(network, paths, image)
            for path, value in expected.items():
                torch.testing.assert_close(found[path], value)
            own = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in network.parameters()]
            assert sum(weight.numel() for weight in own) < 0.55 * total


def on_rank_sharing_all(rank: int, port: int, *arguments: Any) -> None:
    processes.SHARED_FROM = 1
    on_rank(rank, port, *arguments)


def test_a_teacher_that_is_shared_out_gives_the_same_features_from_half_the_weights() -> None:
    two_processes(on_rank_sharded, free_port())


def test_two_processes_with_a_shared_teacher_train_as_one(tmp_path: Path) -> None:
    engine = dict(log_interval=1, shard_teacher=True)
    two_processes(on_rank_sharing_all, free_port(), "terms", str(tmp_path / "two"), dict(engine=engine), False)
    one_process("terms", tmp_path / "one", engine=engine)
    assert_alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_gradients_accumulate_over_processes(tmp_path: Path) -> None:
    changes = dict(optim=dict(accumulate=2))
    one_process("critic", tmp_path / "one", **changes)
    train_on_two("critic", tmp_path / "two", **changes)
    assert_alike(tmp_path / "one", tmp_path / "two")


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    one_process("terms", tmp_path / "whole")
    half = dict(schedule=dict(steps=2, val_interval=2, warmup=0, policy="constant"))
    whole = dict(schedule=half["schedule"] | dict(steps=4))
    one_process("terms", tmp_path / "one", **whole)
    train_on_two("terms", tmp_path / "two", **half)
    one_process("terms", tmp_path / "two", resume=True, **whole)
    a, b = (torch.load(tmp_path / run / LAST, weights_only=True) for run in ("one", "two"))
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=1e-3, atol=1e-5)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = small("plain")["data"] | dict(batch_size=3)
    with pytest.raises(Exception, match=r"got 3|process . terminated") as caught:  # of whichever ends first
        train_on_two("plain", tmp_path / "run", data=data)
    assert "multiple of the 2 processes, got 3" in str(caught.value) + capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_all_processes_stop_at_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    """Only the second process sees it: the label of the last image of the batch."""
    model = dict(type=Segmentor, network=dict(type=Plain, num_classes=11), supervision=dict(main=dict(loss=Odd())))
    with pytest.raises(Exception, match="not finite: loss_main"):
        train_on_two("plain", tmp_path / "run", model=model, schedule=dict(steps=20, val_interval=20))
    assert not (tmp_path / "run" / LAST).exists()


class Odd(nn.Module):
    """Not a number, in the second process alone."""

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return logits.mean() * (float("nan") if torch.distributed.get_rank() else 1.0)


def test_torchrun_starts_the_command(tmp_path: Path) -> None:
    sizes = ["data.dataset.size=32,64", "data.augment.crop_size=32,64", "data.batch_size=4", "data.workers=0"]
    lengths = ["data.train.length=8", "data.val.length=3", "schedule.steps=2", "schedule.warmup=0"]
    sets = [part for change in (*sizes, *lengths) for part in ("--set", change)]
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "segkd", "train"]
    arguments = ["--student", "fast_scnn", "--data", "synthetic", "--out", str(tmp_path / "run"), *sets]
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, *command, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("at the last step") == 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["processes"] == 2


def test_the_demo_runs_in_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from segkd.cli.main import parse

    monkeypatch.setenv("WORLD_SIZE", "2")
    args = parse(["demo", "--out", str(tmp_path / "demo")])
    with pytest.raises(UserError, match="one process, not under torchrun"):
        args.run(args)
