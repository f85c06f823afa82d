"""``segkd demo``: a student alone, the same taught by a released teacher, and its int8 file, on synthetic streets.

Of the scenes 60 have labels and 3,200 have none: what a teacher's answers are worth shows where labels are few. It
composes two runs of shipped parts, then exports, quantises, scores and draws; no training code is its own.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segkd.cli.common import console, following, positive, say
from segkd.errors import UserError
from segkd.files import writable_folder

TEACHER, STUDENT, RECIPE, DATA = "light_fpn_synthetic", "fast_scnn", "dist", "synthetic_few"
ALONE, DISTILLED = "student alone", "student distilled"
ARMS: dict[str, str | None] = {ALONE: None, DISTILLED: RECIPE}
SMALLER: tuple[str, ...] = ()  # overrides
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
    parser.add_argument("--steps", type=positive, metavar="N", default=300, help="steps of both students (default 300)")
    parser.add_argument("--images", type=positive, metavar="N", default=200, help="test scenes to score (default 200)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run all of it, then show one table, and write metrics.json and comparison.png."""
    from segkd.report.tables import comparison_table
    from segkd.training.build import build_dataset
    from segkd.training.processes import is_distributed
    from segkd.workbench.comparison import evaluate_models, image_size
    from segkd.workbench.runs import open_model, open_teacher

    if is_distributed():
        raise UserError("the demo runs in one process, not under torchrun")
    began = time.perf_counter()
    out = _fresh_folder(args.out)
    cfgs = {arm: _config(arm, args) for arm in ARMS}
    cfg = cfgs[DISTILLED]
    for arm, own in cfgs.items():
        _train(arm, own, out)
    dataset = build_dataset(cfg, "test")
    size = image_size(dataset)
    files = {arm: out / _slug(arm) / "student_last.pth" for arm in ARMS}
    files |= _deploy(cfg, files[DISTILLED], size, out)
    models = {"teacher": open_teacher(cfg)} | {name: open_model(cfg, file) for name, file in files.items()}
    with following() as progress:
        rows = evaluate_models(models, dataset, size, workers=cfg["data"].get("workers", 0), progress=progress)
    seconds = time.perf_counter() - began
    _write(out, rows, cfgs, size, len(dataset), seconds)
    _draw(out, models, dataset)
    say(f"{len(dataset)} test scenes of {size[0]}x{size[1]} (HxW):", style="bold")
    console.print(comparison_table(rows))
    say(_gain(rows, cfg))
    say(f"numbers: {out / 'metrics.json'}")
    say(f"picture: {out / 'comparison.png'}")
    say(f"all of it took {seconds / 60:.1f} minutes")


def _gain(rows: list[dict[str, Any]], cfg: Mapping[str, Any]) -> str:
    """What distillation brought, and where it comes from."""
    scores = {row["name"]: row["miou"] for row in rows}
    data = cfg["data"]
    return (
        f"distilled against alone: {scores[DISTILLED] - scores[ALONE]:+.2f} mIoU, with one seed. Both saw the same "
        f"{data['train']['length']} labelled scenes; the teacher answered for {data['unlabelled']['length']} more, "
        "that have no labels"
    )


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


def _parts(arm: str) -> str:
    return " with ".join(filter(None, (STUDENT, ARMS[arm])))


def _config(arm: str, args: argparse.Namespace) -> dict[str, Any]:
    """The arm's run of shipped parts. Both get the same steps, seed, labels and schedule."""
    from segkd.workbench.composing import compose

    overrides = [
        f"data.test.length={args.images}",
        f"schedule.steps={args.steps}",
        f"schedule.val_interval={args.steps}",
        "engine.precision=fp32",  # as in README's table; networks as light as these are no faster in bf16 on CPUs
        *SMALLER,
    ]
    recipe = ARMS[arm]
    return compose(STUDENT, teacher=recipe and TEACHER, recipe=recipe, data=DATA, overrides=overrides)


def _train(arm: str, cfg: Mapping[str, Any], out: Path) -> None:
    from segkd.cli.train import train_with_progress

    say(f"{arm}: {cfg['schedule']['steps']} steps of {_parts(arm)}", style="bold")
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
    out: Path,
    rows: list[dict[str, Any]],
    cfgs: Mapping[str, Any],
    size: tuple[int, int],
    images: int,
    seconds: float,
) -> None:
    from segkd.report.tables import write_json
    from segkd.training.environment import environment

    content = {
        "rows": rows,
        "teacher": TEACHER,
        "parts": {arm: _parts(arm) for arm in ARMS},
        "steps": {arm: cfg["schedule"]["steps"] for arm, cfg in cfgs.items()},
        "size": size,
        "test_scenes": images,
        "wall_seconds": round(seconds, 1),
        **environment(cfgs[DISTILLED].get("seed")),
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
