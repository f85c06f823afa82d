"""``segkd demo``: teacher, student alone, distilled student, int8 file, on synthetic streets, in one go.

It composes three runs of shipped parts, then exports, quantises, scores and draws; no training code is its own.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segkd.cli.common import console, following, parse_size, positive, say
from segkd.errors import UserError
from segkd.files import writable_folder

#: arm -> its network, and its recipe
ARMS = {
    "teacher": ("deeplabv3plus_r18", None),
    "student alone": ("fast_scnn", None),
    "student distilled": ("fast_scnn", "kd_cwd"),
}
SCENES = {"train": 3200, "val": 50}
MARK = "segkd_demo"


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("demo", help="teacher -> student -> int8 on synthetic streets, in under 10 minutes")
    parser.add_argument(
        "--out",
        type=writable_folder,
        default="work/demo",
        metavar="DIR",
        help="folder of the results (default work/demo)",
    )
    parser.add_argument(
        "--size", type=parse_size, default=(128, 256), metavar="HxW", help="image size (default 128x256)"
    )
    parser.add_argument("--steps", type=positive, metavar="N", default=400, help="steps of both students (default 400)")
    parser.add_argument(
        "--teacher-steps", type=positive, metavar="N", default=900, help="steps of the teacher (default 900)"
    )
    parser.add_argument("--images", type=positive, metavar="N", default=200, help="test scenes to score (default 200)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run all of it, then show one table, and write metrics.json and comparison.png."""
    from segkd.report.tables import comparison_table
    from segkd.training.build import build_dataset
    from segkd.training.processes import is_distributed
    from segkd.workbench.comparison import evaluate_models
    from segkd.workbench.runs import open_model

    if is_distributed():
        raise UserError("the demo runs in one process, not under torchrun")
    began = time.perf_counter()
    out = _fresh_folder(args.out)
    cfgs = {arm: _config(arm, args, out) for arm in ARMS}
    for arm, cfg in cfgs.items():
        _train(arm, cfg, out)
    files = {arm: out / _slug(arm) / "student_last.pth" for arm in ARMS}
    files |= _deploy(cfgs["student distilled"], files["student distilled"], args.size, out)
    models = {name: open_model(cfgs.get(name, cfgs["student distilled"]), file) for name, file in files.items()}
    dataset = build_dataset(cfgs["teacher"], "test")
    with following() as progress:
        workers = cfgs["teacher"]["data"].get("workers", 0)
        rows = evaluate_models(models, dataset, args.size, workers=workers, progress=progress)
    seconds = time.perf_counter() - began
    _write(out, rows, cfgs, args, seconds)
    _draw(out, models, dataset)
    say(f"{len(dataset)} test scenes of {args.size[0]}x{args.size[1]} (HxW):", style="bold")
    console.print(comparison_table(rows))
    say(f"numbers: {out / 'metrics.json'}")
    say(f"picture: {out / 'comparison.png'}")
    say(f"all of it took {seconds / 60:.1f} minutes")


def _fresh_folder(out: Path) -> Path:
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).exists():
            raise UserError(f"{out} is not empty and no earlier demo; choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    return out


def _slug(arm: str) -> str:
    return arm.replace(" ", "_")


def _name(arm: str) -> str:
    return " with ".join(filter(None, ARMS[arm]))


def _config(arm: str, args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """The arm's run of shipped parts, made small. Both students get the same steps, seed, data and schedule."""
    from segkd.workbench.composing import compose

    steps = args.teacher_steps if arm == "teacher" else args.steps
    overrides = [
        f"data.dataset.size={args.size}",
        f"data.augment.crop_size={args.size}",
        "data.dataset.cache=True",
        *(f"data.{split}.length={count}" for split, count in SCENES.items()),
        f"data.test.length={args.images}",
        f"schedule.steps={steps}",
        f"schedule.warmup={min(50, steps)}",
        f"schedule.val_interval={steps}",
    ]
    student, recipe = ARMS[arm]
    teacher = f"{ARMS['teacher'][0]}@{out / 'teacher' / 'student_last.pth'}" if recipe else None
    return compose(student, teacher=teacher, recipe=recipe, data="synthetic", overrides=overrides)


def _train(arm: str, cfg: Mapping[str, Any], out: Path) -> None:
    from segkd.cli.train import train_with_progress

    say(f"{arm}: {cfg['schedule']['steps']} steps of {_name(arm)}", style="bold")
    began = time.perf_counter()
    train_with_progress(cfg, out / _slug(arm), title=arm, per_class=False)
    say(f"  took {time.perf_counter() - began:.0f} s")


def _deploy(cfg: Mapping[str, Any], weights: Path, size: tuple[int, int], out: Path) -> dict[str, Path]:
    """The distilled student as ONNX float32 and as int8 calibrated on training scenes."""
    from segkd.workbench.deployment import export_run, quantize_run

    files = {"distilled, ONNX": out / "student.onnx", "distilled, int8": out / "student_int8.onnx"}
    with console.status("exporting to ONNX, then int8"):
        export_run(cfg, weights, size, files["distilled, ONNX"])
        quantize_run(cfg, files["distilled, ONNX"], files["distilled, int8"], images=32)
    say("exported", style="bold")
    for file in files.values():
        say(f"  {file}: {file.stat().st_size / 2**20:.2f} MiB")
    return files


def _write(
    out: Path, rows: list[dict[str, Any]], cfgs: Mapping[str, Any], args: argparse.Namespace, seconds: float
) -> None:
    from segkd.report.tables import write_json
    from segkd.training.environment import environment

    content = {
        "rows": rows,
        "parts": {arm: _name(arm) for arm in ARMS},
        "steps": {arm: cfg["schedule"]["steps"] for arm, cfg in cfgs.items()},
        "size": args.size,
        "test_scenes": args.images,
        "wall_seconds": round(seconds, 1),
        **environment(cfgs["teacher"].get("seed")),
    }
    write_json(out / "metrics.json", content)


def _draw(out: Path, models: Mapping[str, Any], dataset: Any, count: int = 6) -> None:
    """A grid of test scenes: image, truth, and what each model sees."""
    import torch

    from segkd.report.pictures import colourise, grid, write_png

    shown = [name for name in models if name != "distilled, ONNX"]
    rows = []
    for k in range(min(count, len(dataset))):
        image, label = dataset[k]
        batch = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
        guesses = [models[name].predict(batch)[0].argmax(0).cpu().numpy() for name in shown]
        rows.append([image, colourise(label, dataset.palette), *(colourise(g, dataset.palette) for g in guesses)])
    write_png(out / "comparison.png", grid(rows, ["image", "truth", *shown]))
