"""``segkd train``: one run from a config."""

from __future__ import annotations

import argparse
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segkd.cli.common import WORDS, add_run_arguments, add_word_arguments, console, default_run, following, load, say
from segkd.errors import UserError
from segkd.files import writable_folder
from segkd.training.config import LOGGERS


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("train", help="train a teacher, a student alone, or a distilled student")
    add_run_arguments(parser)
    parser.add_argument(
        "--out", type=writable_folder, metavar="RUN", help="run folder (default: work/ and the config's name)"
    )
    add_word_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last state")
    parser.add_argument(
        "--skip-preflight", action="store_true", help="begin without looking at teacher, terms, memory and disk first"
    )
    parser.add_argument("--logger", choices=LOGGERS, help="log there, too (engine.logger): losses, scores, val images")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train, and print the validation scores. A new run of one process begins with a preflight."""
    from segkd.training.processes import is_distributed, is_main

    args.overrides += [f"engine.logger={args.logger}"] if args.logger else []
    cfg = load(args, WORDS)
    folder = args.out or writable_folder(default_run(args))
    if args.resume and is_main():
        _tell_changes(cfg, folder)
    if not (args.skip_preflight or args.resume or is_distributed()):
        _look_first(cfg, folder)
    try:
        metrics = train_with_progress(cfg, folder, args.resume, title=str(folder))
    except (KeyboardInterrupt, OSError):
        if is_main() and folder.is_dir():
            _tell_way_on(cfg, folder)
        raise
    if not is_main():
        return
    from segkd.training.bad_files import said

    best = metrics["val_best"]
    say(
        f"val mIoU {metrics['val_last']['mIoU']:.2f} at the last step, {best['mIoU']:.2f} at the best "
        f"(step {best['step']})"
    )
    if "skipped" in metrics:
        say(said(metrics["skipped"]))
    say(f"weights, last: {folder / metrics['student_last']}")
    say(f"weights, best on val: {folder / metrics['student_best']}")
    if "student_ema" in metrics:
        say(f"weights, averaged, best on val: {folder / metrics['student_ema']}")


def _look_first(cfg: Mapping[str, Any], folder: Path) -> None:
    """The preflight, in a line, and one for each warning; an error ends the run before its first step."""
    from segkd.workbench.preflight import preflight

    with following() as progress:
        found = preflight(cfg, folder=folder, progress=progress)
    for one in found.warnings:
        say(f"  warning, {one}")
    if not found.ok:
        raise UserError(f"{found.reason()}; to train all the same: --skip-preflight")
    say(found.summary())


def _tell_changes(cfg: Mapping[str, Any], folder: Path) -> None:
    """What differs from the config that the run has been trained with so far."""
    from segkd.training.configfile import differences, load_config

    if (folder / "config.py").is_file():
        for key, old, new in differences(load_config(str(folder / "config.py")), cfg):
            say(f"resuming with another {key}: {new!r}, it was {old!r}")


def _tell_way_on(cfg: Mapping[str, Any], folder: Path) -> None:
    """What --resume would take up: a state, or the beginning of a run with first stages."""
    staged = any(bind.get("first_stage") for bind in cfg["model"].get("binds", {}).values())
    if (folder / "state.pth").is_file() or (staged and (folder / "config.py").is_file()):
        say(f"to go on: segkd train {shlex.quote(str(folder))} --resume")
    else:
        say(f"nothing to go on from: {folder} holds no state yet, the first one comes with the first validation")


def train_with_progress(
    cfg: Mapping[str, Any], folder: Path, resume: bool = False, title: str = "training", per_class: bool = True
) -> dict[str, Any]:
    """``segkd.training.loop.train``, shown as it goes (see ``segkd.report.live.Live``)."""
    from segkd.report.live import Live
    from segkd.training.loop import train

    with Live(title, console, per_class) as live, _term_warnings_as_lines():
        return train(cfg, folder, resume=resume, hooks=[live], on_first_stage=live.first_stage)


@contextmanager
def _term_warnings_as_lines() -> Iterator[None]:
    """Show what is found wrong with a term as the other lines of a run; all other warnings as ever."""
    from segkd.training.watch import TermWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", TermWarning)
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, TermWarning):
                say(f"  warning, {message}")
            else:
                plain(message, category, *where, **more)

        warnings.showwarning = show
        yield
