"""``segkd train``: one run from a config."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segkd.cli.common import add_config_arguments, console, default_run, load, progress_bar


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("train", help="train a teacher, a student alone, or a distilled student")
    add_config_arguments(parser)
    parser.add_argument("--out", metavar="RUN", help="run folder (default: work/ and the config's name)")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last state")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train, and print the validation scores."""
    cfg = load(args)
    folder = Path(args.out) if args.out else default_run(args.config)
    metrics = train_with_progress(cfg, folder, args.resume)
    best = metrics["val_best"]
    console.print(
        f"[bold]{folder}[/]: val mIoU {metrics['val_last']['mIoU']:.2f} at the last step, "
        f"{best['mIoU']:.2f} at the best (step {best['step']})"
    )
    console.print(
        f"weights: {folder / metrics['student_best']} (best on val), {folder / metrics['student_last']} (last)"
    )


def train_with_progress(
    cfg: Mapping[str, Any], folder: Path, resume: bool = False, title: str = "training"
) -> dict[str, Any]:
    """``segkd.engine.train.train`` with a progress bar and a line per validation."""
    from segkd.engine.hooks import CallbackHook
    from segkd.engine.train import train

    steps = int(cfg["schedule"]["steps"])
    with progress_bar(title, steps) as bar:

        def on_step(step: int, total: int, loss: float) -> None:
            bar.update(bar.tasks[0].id, completed=step, description=f"{title}  loss {loss:.3f}")

        def on_val(step: int, scores: Mapping[str, float]) -> None:
            console.print(f"  step {step}: val mIoU {scores['mIoU']:.2f}, pixel accuracy {scores['aAcc']:.2f}")

        return train(cfg, folder, resume=resume, hooks=[CallbackHook(on_step, on_val)])
