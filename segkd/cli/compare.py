"""``segkd compare``: several recipes beside each other and beside the student alone, over seeds, with intervals."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.cli.common import (
    WORDS,
    add_data_arguments,
    add_json_argument,
    add_parts,
    add_word_arguments,
    console,
    data_of,
    following,
    positive,
    save_json,
    say,
)
from segkd.errors import UserError
from segkd.files import writable_folder

if TYPE_CHECKING:
    from segkd.workbench.arms import Comparison


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="train a student by several recipes, over seeds, and say which of them pay",
        description="Trains each arm with each seed, one after the other, from the same starts; scores the last "
        "weights and holds each arm against the student alone, or against the first, with 95 % intervals (bootstrap "
        "over images and seeds). Started again, it goes on where it stopped.",
    )
    add_parts(parser, recipe=False)
    parser.add_argument(
        "--recipes",
        type=names,
        default=["alone", "kd"],
        metavar="NAME,NAME",
        help="recipes by name or file; alone is the student under labels (default alone,kd)",
    )
    parser.add_argument(
        "--seeds", type=seeds, default=[0, 1, 2], metavar="N|S,S", help="how many trainings of each, or their seeds (3)"
    )
    parser.add_argument(
        "--split", default="val", metavar="NAME", help="the students are scored on: val (default) or test"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="equal time in place of equal steps: of each training"
    )
    parser.add_argument("--hours", type=float, metavar="H", help="begin no further training after that")
    parser.add_argument("--race", action="store_true", help="after each seed, only the better half of the arms goes on")
    parser.add_argument(
        "--out", type=writable_folder, default="work/compare", metavar="DIR", help="folder (default work/compare)"
    )
    add_word_arguments(parser)
    add_data_arguments(parser)
    add_json_argument(parser, "the comparison (it is in DIR/comparison.json, too)")
    parser.set_defaults(run=run)


def names(text: str) -> list[str]:
    """Names with commas between them."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of names; write e.g. alone,kd,cwd")
    return found


def seeds(text: str) -> list[int]:
    """A number of seeds, from 0 on; or seeds with commas between them."""
    try:
        return list(map(int, text.split(","))) if "," in text else list(range(positive(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} are no seeds; write 3, or e.g. 0,1,2") from error


def run(args: argparse.Namespace) -> None:
    """Train what is not trained yet, then print, write and draw the comparison."""
    from segkd.report.arms import comparison_lines, draw_comparison, gains_table
    from segkd.report.pictures import write_png
    from segkd.training.processes import is_distributed
    from segkd.workbench.arms import RESULT, Budget, compose_arms, compose_for_equal_time, run_arms

    if is_distributed():
        raise UserError("a comparison runs in one process, not under torchrun")
    if args.student is None:
        raise UserError("nothing named: give --student NAME and --data NAME (`segkd configs` lists them)")
    out = Path(args.out)
    arms = (args.student, args.recipes, args.teacher)
    given = dict(init=args.init, schedule=args.schedule, data=data_of(args), root=args.root, size=args.crop)
    given |= dict(overrides=args.overrides, words={word: getattr(args, word) for word in WORDS})
    with following() as progress:
        if args.minutes is None:
            cfgs = compose_arms(*arms, **given)
        else:
            cfgs = compose_for_equal_time(args.minutes, out, *arms, progress=progress, **given)
        shown = _train_shown(len(cfgs) * len(args.seeds))
        found = run_arms(cfgs, out, args.seeds, args.split, Budget(args.hours, args.race), shown, progress)
    say(f"{args.student} on {found.images} images of {args.split}, last weights:", style="bold")
    console.print(gains_table(found.rows))
    for line in comparison_lines(found):
        say(line)
    content = _content(found, cfgs)
    for path in (out / RESULT, args.json):
        save_json(path, content)
    write_png(out / "comparison.png", draw_comparison(found))
    say(f"picture: {out / 'comparison.png'}")


def _train_shown(runs: int) -> Any:
    """A training that shows how it goes, under its arm, its seed, and its number among all."""
    from segkd.cli.train import train_with_progress

    begun = 0

    def train(cfg: Mapping[str, Any], folder: Path, resume: bool, title: str) -> None:
        nonlocal begun
        begun += 1
        say(f"{title} (training {begun} of at most {runs} of this sitting)", style="bold")
        train_with_progress(cfg, folder, resume, title, per_class=False)

    return train


def _content(found: Comparison, cfgs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    from segkd.training.environment import environment

    batches: Sequence[Any] = [cfg["data"].get("batch_size") for cfg in cfgs.values()]
    return {**found._asdict(), "batch_size": batches[0], **environment(None)}
