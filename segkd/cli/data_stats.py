"""``segkd data stats``: how frequent the classes of a split are, its sizes, and class weights to paste."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from segkd.cli.common import add_json_argument, following, positive, save_json, say, say_columns
from segkd.cli.data_args import add_set_arguments, section_of

if TYPE_CHECKING:
    from segkd.workbench.data_stats import Stats


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "stats",
        help="count classes and sizes, and give class weights",
        description="Counts the labels of a split: pixels and images of each class, sizes, and the usual class "
        "weights, ready for a config.",
    )
    add_set_arguments(parser, several=False)
    parser.add_argument("--limit", type=positive, metavar="N", help="count N labels, evenly spread (default: all)")
    add_json_argument(parser, "it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the table of classes, the sizes, and the weights."""
    from segkd.workbench.data_stats import count_split

    section = section_of(args)
    with following() as progress:
        found = count_split(section, args.split or "train", args.limit, progress)
    _print_classes(found)
    _print_sizes(found)
    _print_weights(found)
    save_json(args.json, found.as_dict())


def _print_classes(found: Stats) -> None:
    rows = [["", "class", "pixels (%)", "images", "images (%)"]]
    for k, name in enumerate(found.class_names):
        count = found.images[k]
        rows.append([str(k), name, f"{100 * found.shares[k]:.3f}", str(count), f"{100 * count / found.looked:.1f}"])
    rows.append(["", "void", f"{100 - 100 * sum(found.shares):.3f}", "", ""])
    say_columns(rows, right=(0, 2, 3, 4))


def _print_sizes(found: Stats) -> None:
    """The number of images, and their sizes: each, of a few; else the smallest and the largest."""
    some = "" if found.looked == found.pairs else f", {found.looked} of them counted"
    listed = [f"{h}x{w} ({n})" for (h, w), n in list(found.sizes.items())[:3]]
    if len(found.sizes) > len(listed):
        by_area = sorted(found.sizes, key=lambda size: size[0] * size[1])
        (a, b), (c, d) = by_area[0], by_area[-1]
        listed.append(f"and {len(found.sizes) - len(listed)} other sizes, from {a}x{b} to {c}x{d}")
    say(f"{found.split}: {found.pairs} images{some}; height x width: {', '.join(listed)}")


def _print_weights(found: Stats) -> None:
    from segkd.workbench.data_stats import KEY, WEIGHTS

    say("")
    say(f"class weights, for class_weight of a loss (--set {KEY}=[...]):")
    for name, values in found.weights().items():
        say(f"# {name}: {WEIGHTS[name]}")
        say(f"class_weight={values}")
