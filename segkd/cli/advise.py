"""``segkd advise``: what a teacher knows, how much a student could learn from it, and with which settings to begin."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    RUN_FLAGS,
    WORDS,
    add_json_argument,
    add_run_arguments,
    add_threads_argument,
    add_word_arguments,
    console,
    following,
    load,
    positive,
    save_json,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from segkd.workbench.advice import Advice
    from segkd.workbench.advice_rules import Finding


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "advise",
        help="say where a teacher is right, how much its student could learn, and with which settings to begin",
        description="Shows images to the config's teacher, as they are and changed, and measures what each term pulls; "
        "ends with settings to begin with, each with its reason.",
    )
    add_run_arguments(parser)
    add_word_arguments(parser)
    parser.add_argument(
        "--student-weights", metavar="FILE|RUN", help="the student trained alone: weights (.pth) or its run folder"
    )
    parser.add_argument("--sample", type=positive, default=40, metavar="N", help="images of each split (default 40)")
    parser.add_argument(
        "--batches", type=positive, default=3, metavar="N", help="training batches to measure terms on (default 3)"
    )
    parser.add_argument("--of", metavar="NAME", help="the teacher, where the config has several")
    add_threads_argument(parser)
    add_json_argument(parser, "it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Measure and print: tables, conclusions with their reasons, settings to paste."""
    from segkd.training.environment import environment
    from segkd.workbench.advice import advise

    cfg = load(args, WORDS)
    cfg["engine"] = {**(cfg.get("engine") or {}), "threads": args.threads}
    with following() as progress:
        found = advise(
            cfg, args.sample, args.student_weights, of=args.of, batches=args.batches,
            progress=progress,
        )  # fmt: skip
    _say_tables(found)
    _say_findings("Will it help?", found.verdict)
    _say_findings("Findings", found.findings)
    _say_settings(found, _command(args))
    save_json(args.json, {**jsonable_advice(found), **environment(cfg.get("seed"))})


def jsonable_advice(found: Advice) -> dict[str, Any]:
    """The advice as ``--json`` writes it: findings and recipe as {"says", "because"}."""
    from dataclasses import fields

    content = {one.name: getattr(found, one.name) for one in fields(found)}
    for key in ("verdict", "findings"):
        content[key] = [one._asdict() for one in content[key]]
    return {**content, "recipe": found.recipe._asdict()}


def _say_tables(found: Advice) -> None:
    from segkd.report.advice import borders_table, teaching_table, views_table

    counts = " and ".join(f"{count} {split} images" for split, count in found.images.items())
    say(f"The teacher {found.teacher} for the student {found.student}, on {counts}:", style="bold")
    console.print(views_table(found.views))
    console.print(borders_table(found.borders))
    console.print(teaching_table(found.classes))


def _say_findings(title: str, findings: Iterable[Finding]) -> None:
    say(title, style="bold")
    for one in findings:
        say(f"- {one.says}")
        say(f"  because: {one.because}")


def _say_settings(found: Advice, command: str) -> None:
    from segkd.report.advice import setting_lines

    say("To begin with", style="bold")
    say(f"- recipe: {found.recipe.name}" + (", which this config has" if not found.recipe_settings else ""))
    say(f"  because: {found.recipe.because}")
    say("")
    say(" \\\n    ".join([command, *setting_lines(found.settings)]))
    if found.recipe_settings:
        say("")
        say(f"and to have {found.recipe.name} in place of this config's terms, add:")
        say("    " + " \\\n    ".join(setting_lines(found.recipe_settings)))


def _command(args: argparse.Namespace) -> str:
    """``segkd train`` with what this command was given."""
    config = [] if args.config is None else [args.config]
    flags = [
        word
        for flag in (*RUN_FLAGS, *WORDS)
        if (value := getattr(args, flag)) is not None
        for word in _flag(flag, value)
    ]
    given = [word for override in args.overrides for word in ("--set", override)]
    return shlex.join(["segkd", "train", *config, *flags, *given])


def _flag(name: str, value: object) -> tuple[str, str]:
    """A flag of the command line with its value, a size (H, W) as HxW, a mapping as KEY:VALUE,..."""
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if isinstance(value, dict):
        text = ",".join(f"{key}:{target}" for key, target in value.items())
    return f"--{name.replace('_', '-')}", text
