"""Check a data set on disk: `python datasets/verify.py camvid --root FOLDER [--split val]`.

Prints every problem; exit code 0 if there is none, 2 otherwise. One's own data:
`python datasets/verify.py folder --images FOLDER --labels FOLDER --classes road car`.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from segkd.datasets import DATASETS, names
from segkd.datasets.verify import verify
from segkd.errors import UserError
from segkd.training.labels import missing_classes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"data set: {', '.join(names())}")
    parser.add_argument("--root", help="its folder")
    parser.add_argument("--split", action="append", help="default: all splits; may be repeated")
    parser.add_argument("--images", help="folder: the images")
    parser.add_argument("--labels", help="folder: the labels")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="folder: the class names, in id order")
    parser.add_argument("--ignore", type=int, help="folder: the stored id that means void (default 255)")
    parser.add_argument(
        "--label-map", nargs="+", metavar="ID:CLASS", help="folder: stored id -> class, or 255 to ignore"
    )
    parser.add_argument("--length", type=int, help="synthetic: how many scenes to draw")
    options = parser.parse_args()
    try:
        return max(_check(options.name, arguments) for arguments in _jobs(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _jobs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The constructor arguments of every data set to look at."""
    accepted = inspect.signature(DATASETS.get(options.name)).parameters
    given = {"root": options.root, "images": options.images, "labels": options.labels, "class_names": options.classes}
    given |= {"ignore": options.ignore, "length": options.length}
    if options.label_map:
        given["label_map"] = dict(entry.partition(":")[::2] for entry in options.label_map)
    common = {key: value for key, value in given.items() if value is not None}
    if "check" in accepted:
        common["check"] = False
    split = accepted.get("split")
    if split is None or (split.default is None and not options.split):  # one's own data is looked at as a whole
        return [common]
    module = sys.modules[DATASETS.get(options.name).__module__]
    splits = options.split or [split for split in getattr(module, "SPLITS", ("train", "val")) if split != "trainval"]
    return [common | {"split": split} for split in splits]


def _check(name: str, arguments: dict[str, Any]) -> int:
    what = " ".join([name, *([arguments["split"]] if "split" in arguments else [])])
    try:
        dataset = DATASETS.create(name, **arguments)
    except UserError as error:  # told here, so that the other splits are looked at all the same
        print(f"{what}: {error}")
        return 2
    problems = verify(dataset, _progress if sys.stderr.isatty() else None)
    for problem in problems:
        print(problem)
    if dataset and not problems and (advice := missing_classes(dataset)):
        print(f"note: {advice}")
    print(f"{what}: {len(dataset)} pairs, {dataset.num_classes} classes, {len(problems)} problems")
    return 2 if problems else 0


def _progress(done: int, total: int) -> None:
    print(f"\r{done}/{total}", end="" if done < total else "\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
