"""What only a GPU can show, in one JSON file, in 8 minutes at most on one GPU.

    python tools/gpu_check.py --json gpu_check.json
    python tools/gpu_check.py --json tiny.json --device cpu --tiny      # the same, small, before there is a GPU

Parts, each in a process of its own, so that one that crashes or hangs takes no other with it:

- golden: the runs of ``tests/golden/runs.json`` within the tolerance that the tests have between processors. Dropout is
  drawn on the CPU, as in the frozen runs; TF32 is off.
- processes: one process in a process group (NCCL; on a CPU gloo) trains as one without; SyncBatchNorm on a GPU.
- cwd, cirkd: a step of these recipes on Cityscapes at 512 x 1024, with batches of 1 to 8 images that fit:
  peak memory, images/s, the share of each part, the ratio to a bare loop. Networks without weights, noise for images.
- options: bf16, fp16, channels_last, the teacher's precision, EMA, torch.compile: some steps each, whose losses are
  finite and close to those in fp32; ms per step.

The JSON is written after every check: {"checks": [{"part", "name", "ok", "seconds", "numbers" or "error"}, ...],
"hardware", "versions", "git_commit", ...}; ``ok`` is null for what was left out, with the reason. Exit code 1 if a
check failed.

A machine without a package index but with torch, torchvision, timm, OpenCV, SciPy, rich, psutil and ONNX Runtime needs
a few megabytes of wheels besides. Get them where there is an index, for that machine's Python:

    WHEELS="onedl-mmengine addict termcolor yapf platformdirs segmentation-models-pytorch"
    pip download --only-binary=:all: --python-version 3.12 --dest wheels --no-deps $WHEELS

Carry the folder along with the checkout, and there:

    pip install --no-index --find-links wheels --no-deps --target site wheels/*.whl
    PYTHONPATH=site python tools/gpu_check.py --json gpu_check.json
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STARTS_UNTIL = 0.85  # of the time: no check is begun after it
#: relative differences of losses to those of fp32: at the first step, and over all steps
CLOSE = {"fp32": (5e-3, 0.05), "bf16": (0.03, 0.15), "fp16": (0.03, 0.3)}  # fp16 leaves out its first steps
#: name -> the engine section's additions, and the precision by whose tolerance they are judged
OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "fp32": ({}, "fp32"),
    "channels_last": (dict(channels_last=True), "fp32"),
    "bf16": (dict(precision="bf16"), "bf16"),
    "fp16 with gradient scaling": (dict(precision="fp16"), "fp16"),
    "bf16, channels_last": (dict(precision="bf16", channels_last=True), "bf16"),
    "teacher in bf16": (dict(teacher_precision="bf16"), "bf16"),
    "ema": (dict(ema=0.99), "fp32"),
    "compile": (dict(compile=True), "fp32"),
    "compile, bf16, channels_last": (dict(compile=True, precision="bf16", channels_last=True), "bf16"),
}


class LeftOutError(Exception):
    """A check that says nothing here, and why."""


class FoundError(Exception):
    """What a check found is not as it must be; holds the numbers."""


def demand(holds: bool, numbers: Any) -> None:
    """Fail the check, with its numbers, unless the condition holds."""
    if not holds:
        raise FoundError(numbers)


class Report:
    """The JSON file, written anew after every check.

    Args:
        path: the file; it holds {"checks": [...]} already.
        part: what this process checks.
        ends: time (as ``time.time`` has it) from which on no check is begun.
    """

    def __init__(self, path: Path, part: str, ends: float) -> None:
        self.path, self.part, self.ends = path, part, ends

    def check(self, name: str, function: Callable[[], Mapping[str, Any]], needs: float = 0.0) -> float:
        """Call ``function``; what it returns are the numbers of a check that holds, what it raises is its failure.

        It is left out where fewer seconds are left than it ``needs``. Returns the seconds that it took.
        """
        began = time.time()
        found: dict[str, Any] = {"part": self.part, "name": name, "ok": True}
        try:
            if began + needs > self.ends:
                raise LeftOutError("no time left")
            found["numbers"] = function()
        except LeftOutError as reason:
            found |= {"ok": None, "error": str(reason)}
        except FoundError as error:
            demanded = traceback.extract_tb(error.__traceback__)[-2].line
            found |= {"ok": False, "numbers": error.args[0], "error": f"does not hold: {demanded}"}
        except Exception as error:
            found |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:500], "where": traceback.format_exc(-3)}
        found["seconds"] = round(time.time() - began, 2)
        self.add(found)
        return float(found["seconds"])

    def add(self, found: Mapping[str, Any]) -> None:
        """Append a check to the file, and say so."""
        from segkd.report.tables import write_json

        content = json.loads(self.path.read_text(encoding="utf-8"))
        content["checks"].append(found)
        write_json(self.path, content)
        word = {True: "ok", False: "FAILED", None: "left out"}[found["ok"]]
        print(f"{word:8} {self.part}: {found['name']}, {found['seconds']} s {found.get('error', '')}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"), metavar="FILE")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes and few runs, for a CPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which what runs is stopped (default 8)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--commit", help="of this checkout, where git can't tell")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # the processes that this one starts
    parser.add_argument("--ends", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not take the cores from working ones
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
    if args.part:
        PARTS[args.part](Report(args.json, args.part, args.ends), args.tiny)
        return 0
    return run_parts(args)


def run_parts(args: argparse.Namespace) -> int:
    """Each part in a process of its own, within the time; 1 if a check failed."""
    import torch

    from segkd.report.tables import write_json
    from segkd.training.environment import environment

    if args.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU that torch can use; --device cpu --tiny runs the same checks, small, on the CPU")
        return 1
    began, seconds = time.time(), 60 * args.minutes
    args.json.parent.mkdir(parents=True, exist_ok=True)
    about = environment()
    about["git_commit"] = about["git_commit"] or args.commit
    write_json(args.json, {"device": args.device, "tiny": args.tiny, **about, "checks": []})
    for part in args.parts:
        words = ["--part", part, "--json", str(args.json), "--device", args.device, *["--tiny"] * args.tiny]
        words += ["--ends", str(began + STARTS_UNTIL * seconds)]
        left, started, problem = began + seconds - time.time(), time.time(), ""
        try:
            done = subprocess.run([sys.executable, __file__, *words], timeout=max(left, 1), check=False)
            problem = f"exit code {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = "stopped at the time limit"
        if problem:
            lasted = round(time.time() - started, 2)
            failed = {"part": part, "name": "the process", "ok": False, "error": problem, "seconds": lasted}
            Report(args.json, part, 0).add(failed)
    content = json.loads(args.json.read_text(encoding="utf-8"))
    write_json(args.json, content | {"seconds": round(time.time() - began, 1)})
    bad = sum(one["ok"] is False for one in content["checks"])
    print(f"{len(content['checks'])} checks, {bad} failed, in {time.time() - began:.0f} s; wrote {args.json}")
    return 1 if bad else 0


# golden


def golden_runs() -> Any:
    """The module of the tests that makes the golden runs."""
    for folder in (ROOT / "tests", ROOT / "tests" / "training"):
        if str(folder) not in sys.path:
            sys.path.insert(1, str(folder))
    return importlib.import_module("golden_runs")


def golden(report: Report, tiny: bool) -> None:
    import torch

    torch.backends.cudnn.allow_tf32 = False
    runs = golden_runs()
    frozen = json.loads(runs.FILE.read_text())["runs"]
    for name in ("alone", "kd_cwd", "bf16") if tiny else runs.RUNS:
        report.check(name, lambda name=name: against_golden(runs, name, frozen[name]))  # type: ignore[misc]


def against_golden(runs: Any, name: str, frozen: Mapping[str, Any]) -> dict[str, Any]:
    """How far a run is from the frozen one: at the first step, where it must be close, and at the last."""
    import torch

    if name == "two_processes" and torch.cuda.is_available():
        raise LeftOutError("two processes need two GPUs")
    with tempfile.TemporaryDirectory() as folder, dropout_drawn_on_the_cpu():
        found = runs.observe(name, Path(folder) / "run")
    kinds = [[sorted(record) for record in log] for log in (found["log"], frozen["log"])]
    demand(kinds[0] == kinds[1], "the log has other records")
    differences = [difference(a, b) for a, b in zip(found["log"], frozen["log"], strict=True)]
    numbers = {
        "bit_equal": found["student"] == frozen["student"],
        "first_step": max(d[0] for d in differences[:2]),
        "first_step_gradients": max(d[1] for d in differences[:2]),
        "all_steps": max(d[0] for d in differences),
    }
    limit = 2e-2 if name == "bf16" else 1e-3
    demand(numbers["first_step"] <= limit, numbers)
    demand(numbers["first_step_gradients"] <= 0.1, numbers)
    return numbers


def difference(found: Any, frozen: Any, inside: str = "") -> tuple[float, float]:
    """The largest relative difference of values, and of gradients, in a record of the log; 1e-4 counts as nothing."""
    if isinstance(frozen, dict):
        parts = [difference(found[key], value, f"{inside} {key}") for key, value in frozen.items()]
        return max((p[0] for p in parts), default=0.0), max((p[1] for p in parts), default=0.0)
    if not isinstance(frozen, float) or abs(found - frozen) <= 1e-4:
        return 0.0, 0.0
    apart = abs(found - frozen) / max(abs(frozen), 1e-4)
    return (0.0, apart) if "gradients" in inside else (apart, 0.0)


@contextmanager
def dropout_drawn_on_the_cpu() -> Iterator[None]:
    """Inside, dropout draws from the CPU's generator, so that a GPU drops what a CPU drops."""
    import torch
    from torch.nn import functional

    functions: Any = functional
    plain = functional.dropout

    def dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        if not training or p == 0:
            return x
        return x * plain(torch.ones_like(x, device="cpu"), p, True).to(x.device)

    functions.dropout = dropout
    try:
        yield
    finally:
        functions.dropout = plain


# options and processes: short trainings


class Recorder:
    """A hook that keeps the loss and the time of each step."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self.scale = 1.0

    def before_train_iter(self, training: Any, batch_idx: int, data_batch: Any) -> None:
        synchronize()
        self.began = time.perf_counter()

    def after_train_iter(self, training: Any, batch_idx: int, data_batch: Any, outputs: Mapping[str, Any]) -> None:
        synchronize()
        self.seconds.append(time.perf_counter() - self.began)
        self.losses.append(float(outputs["loss"]))
        self.scale = float(training.precision.scaler.get_scale())


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def short_training(engine: Mapping[str, Any], tiny: bool) -> tuple[Recorder, Any]:
    """Some steps of KD and CWD on synthetic streets, without dropout; what was seen, and the model."""
    from torch import nn

    from segkd.datasets.synthetic import SyntheticStreets
    from segkd.datasets.transforms import TrainTransform
    from segkd.training.build import build_model
    from segkd.training.loop import train

    size, batch, steps = ((48, 64), 2, 4) if tiny else ((256, 512), 8, 12)
    cfg = golden_runs().config("kd_cwd")
    cfg["data"] |= dict(
        dataset=dict(type=SyntheticStreets, size=size, cache=True), train=dict(length=batch),
        augment=dict(type=TrainTransform, crop_size=size, scale=None), batch_size=batch,
    )  # fmt: skip
    cfg["schedule"] = dict(steps=steps, policy="constant")
    cfg["optim"] = dict(optimizer=dict(type="AdamW", lr=1e-4))
    cfg["engine"] = {"log_interval": 1000, "gradient_interval": 0, **engine}
    model, recorder = build_model(cfg), Recorder()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with tempfile.TemporaryDirectory() as folder:
        train(cfg, Path(folder) / "run", model=model, hooks=[recorder])
    return recorder, model


def options(report: Report, tiny: bool) -> None:
    seen: dict[str, list[float]] = {}
    took = {False: 0.0, True: 0.0}  # without and with a compiler at work
    for name, (engine, _) in OPTIONS.items():
        compiles = "compile" in engine
        took[compiles] = report.check(name, lambda name=name: option(name, tiny, seen), took[compiles])  # type: ignore[misc]


def option(name: str, tiny: bool, seen: dict[str, list[float]]) -> dict[str, Any]:
    """Losses of a training with an option, beside those of fp32."""
    import math
    import statistics
    from dataclasses import fields

    from segkd.training.config import Engine

    engine, judged = OPTIONS[name]
    unknown = set(engine) - {one.name for one in fields(Engine)}
    if unknown:
        raise LeftOutError(f"not in this version: engine.{', '.join(sorted(unknown))}")
    recorder, _ = short_training(engine, tiny)
    seen[name] = losses = recorder.losses
    apart = [abs(a - b) / abs(b) for a, b in zip(losses, seen["fp32"], strict=True)]
    half = recorder.seconds[len(recorder.seconds) // 2 :]
    numbers = {
        "ms_per_step": round(1e3 * statistics.median(half), 3),
        "first_step_seconds": round(recorder.seconds[0], 2),
        "losses": losses,
        "from_fp32_first": apart[0],
        "from_fp32_most": max(apart),
        "loss_scale": recorder.scale,
    }
    first, most = CLOSE[judged]
    demand(all(map(math.isfinite, losses)), numbers)
    demand(apart[0] <= first, numbers)
    demand(max(apart) <= most, numbers)
    demand(judged != "fp16" or recorder.scale > 1, numbers)
    return numbers


def processes(report: Report, tiny: bool) -> None:
    report.check("a group of one process", lambda: group_of_one(tiny))
    report.check("SyncBatchNorm's own sums", sync_batch_norm)


@contextmanager
def process_group() -> Iterator[str]:
    """A process group of this process alone; yields its backend."""
    import torch
    from torch import distributed

    backend = "nccl" if torch.cuda.is_available() else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            yield backend
        finally:
            distributed.destroy_process_group()


def group_of_one(tiny: bool) -> dict[str, Any]:
    """A training in a process group beside one without: the same losses, BatchNorm over the processes on a GPU."""
    import torch
    from torch import nn

    torch.backends.cudnn.allow_tf32 = False
    alone, _ = short_training({}, tiny)
    with process_group() as backend:
        grouped, model = short_training({}, tiny)
    count = sum(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    apart = [abs(a - b) / abs(b) for a, b in zip(grouped.losses, alone.losses, strict=True)]
    numbers = {"backend": backend, "sync_batch_norms": count, "from_alone": apart}
    demand(apart[0] <= 1e-4, numbers)
    demand(max(apart) <= 0.05, numbers)
    demand((count > 0) is torch.cuda.is_available(), numbers)
    return numbers


def sync_batch_norm() -> dict[str, Any]:
    """The kernels that sum over processes (a module alone leaves them out where there is one process)."""
    import torch
    from torch import distributed
    from torch.nn import functional
    from torch.nn.modules._functions import SyncBatchNorm

    if not torch.cuda.is_available():
        raise LeftOutError("SyncBatchNorm has no CPU form")
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4, 8, 16, 32, generator=draw).cuda().requires_grad_()
    weight, bias = (torch.randn(8, generator=draw).cuda().requires_grad_() for _ in range(2))
    pull = torch.randn(4, 8, 16, 32, generator=draw).cuda()
    plain = functional.batch_norm(x, None, None, weight, bias, training=True)
    wanted = torch.autograd.grad((plain * pull).sum(), (x, weight, bias))
    with process_group():
        group = distributed.group.WORLD
        synced = SyncBatchNorm.apply(x, weight, bias, None, None, 1e-5, 0.1, group, 1)
        found = torch.autograd.grad((synced * pull).sum(), (x, weight, bias))
    pairs = zip((synced, *found), (plain, *wanted), strict=True)
    apart = [float((a - b).abs().max() / b.abs().max()) for a, b in pairs]
    demand(max(apart) <= 1e-4, apart)
    return {"from_batch_norm": apart}


# a step at full size


def step(name: str, report: Report, tiny: bool) -> None:
    for batch in (1, 2) if tiny else (2, 8, 4, 1):
        report.check(f"batch {batch}", lambda batch=batch: step_times(name, batch, tiny))  # type: ignore[misc]


def step_times(name: str, batch: int, tiny: bool) -> dict[str, Any]:
    """Memory, speed and parts of a step of a recipe on Cityscapes, Fast-SCNN taught by DeepLabV3+-R101."""
    import torch

    from segkd.errors import UserError
    from segkd.workbench.composing import compose
    from segkd.workbench.step import time_step

    gc.collect()  # of a check before that did not fit
    torch.cuda.empty_cache()
    changes = [f"data.batch_size={batch}", "data.workers=0"]
    changes += ["data.augment.crop_size=64,128"] * tiny
    teacher = "deeplabv3plus_r101@none.pth"
    cfg = compose("fast_scnn", teacher=teacher, recipe=name, data="cityscapes", overrides=changes)
    try:
        found = time_step(cfg, 2 if tiny else 6, untrained=True, random_images=True)
    except torch.cuda.OutOfMemoryError as error:
        raise LeftOutError(f"does not fit: {str(error).splitlines()[0]}") from error
    except UserError as error:
        if batch == 1 and "cannot train with batch size 1" in str(error):
            raise LeftOutError(str(error)) from error
        raise
    speed = 1e3 * batch / found.loop_ms
    return {**found._asdict(), "images_per_second_without_data": speed}


PARTS: dict[str, Callable[[Report, bool], None]] = {
    "golden": golden,
    "processes": processes,
    "cwd": lambda report, tiny: step("cwd", report, tiny),
    "cirkd": lambda report, tiny: step("cirkd", report, tiny),
    "options": options,
}

if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # the checkout, in place of this folder
    sys.exit(main())
