"""What subcommands share: arguments, configs and runs, output, progress."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from segkd.cli.streams import naming_output
from segkd.errors import UserError
from segkd.files import writable_file

if TYPE_CHECKING:
    from segkd.workbench import Progress as Follow


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does."""
        with naming_output():
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """The reader has gone: for `main` to know, where rich would exit with code 1."""
        raise BrokenPipeError


WIDE = 120  # columns of a table that goes to a file or a pipe, where no terminal says how wide it may be
console = _Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE)


def say(text: str, style: str | None = None) -> None:
    """Print a line as it is: brackets in paths are no markup, and long lines are not broken (they get copied)."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def say_columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: str = "") -> None:
    """Print rows of text in columns, never cut (layer names get copied); ``right`` are the right-aligned ones."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))]
        say((indent + "  ".join(cells)).rstrip())


def words(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG or --student, --data, --root and --set."""
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", help="a run folder or a config file; or none, and --student"
    )
    parser.add_argument("--student", metavar="NAME", help="in place of CONFIG: a network, for the data set of --data")
    _add_data(parser)
    _add_set(parser)


def config_words(args: argparse.Namespace) -> str:
    """What ``add_config_arguments`` were given, to be typed again."""
    given = [] if args.config is None else [str(args.config)]
    for flag in ("student", "data", "root"):
        given += [] if (value := getattr(args, flag)) is None else [f"--{flag}", str(value)]
    return shlex.join([*given, *(word for text in args.overrides for word in ("--set", text))])


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG or the flags that compose one, and --set."""
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", help="a config file or a run folder; or none, and --student"
    )
    add_parts(parser.add_argument_group("in place of CONFIG", "what `segkd configs` lists, or a file of such a part"))
    add_data_arguments(parser)


def add_parts(parts: argparse._ActionsContainer, recipe: bool = True) -> None:
    """Add the flags of a run's parts but for its data."""
    parts.add_argument("--student", metavar="NAME", help="a network: what was published for it comes with it")
    parts.add_argument("--init", metavar="FILE", help="weights that the student begins with, as far as they fit")
    parts.add_argument("--teacher", metavar="TEACHER", help="a run folder, a file, or KIND:NAME@FILE")
    if recipe:
        parts.add_argument("--recipe", metavar="NAME", help="what is learnt of the teacher, and how (default: kd)")
    parts.add_argument("--schedule", metavar="NAME", help="optimiser and length, in place of the published ones")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a data set, and --set."""
    data = parser.add_argument_group("data")
    _add_data(data)
    data.add_argument("--crop", type=parse_size, metavar="HxW", help="training crops (data.augment.crop_size)")
    own = parser.add_argument_group("your own data", "where --data DIR is not enough; see datasets/folder/README.md")
    own.add_argument("--images", metavar="DIR", help="the images: a folder, or a glob in quotes")
    own.add_argument("--labels", metavar="DIR", help="the labels: a folder, a glob, COCO's JSON or CVAT's XML")
    own.add_argument("--classes", metavar="FILE", help="the class names in id order: a file, or road,car,...")
    own.add_argument(
        "--lists", metavar="FILE", help="a folder of train.txt and val.txt, a list, or a CSV of image,label,split"
    )
    own.add_argument("--suffix", metavar="TEXT", help="what labels' names have after those of images, as in =_mask")
    own.add_argument("--format", metavar="NAME", help="masks, binary, coco, labelme, yolo or cvat (default: found)")
    own.add_argument(
        "--label-map", type=label_map, metavar="ID:CLASS,...", help="0:0,255:1 for masks in black and white"
    )
    own.add_argument("--ignore", type=id_or_name, metavar="ID", help="what means void: an id (255), a name or #RRGGBB")
    own.add_argument("--background", metavar="NAME", help="class of the pixels without a shape, or void")
    own.add_argument("--val", type=share, metavar="X", help="the share for validation, where there is none (0.2)")
    own.add_argument(
        "--group", metavar="WORD", help="what is not parted: prefix (of a video's frames), folder, a regex"
    )
    _add_set(parser)


def add_word_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a training is often given beside its parts: see ``segkd.training.overrides.WORDS``."""
    parser.add_argument("--lr", type=float, metavar="X", help="learning rate (optim.optimizer.lr)")
    parser.add_argument("--batch", type=positive, metavar="N", help="images per step (data.batch_size)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive, metavar="N", help="length of the training (schedule.steps)")
    length.add_argument("--epochs", type=positive, metavar="N", help="the same in passes over the training split")
    parser.add_argument(
        "--unlabelled", metavar="DIR", help="images that only the teacher's terms see (data.unlabelled)"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: a GPU where there is one)")


def _add_data(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="a data set by its name; after CONFIG, a root folder will do",
    )
    parser.add_argument("--root", metavar="DIR", help="root folder of the data set (data.dataset.root)")


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override any config value, e.g. --set schedule.steps=500 (may be repeated)",
    )


def add_json_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --json FILE."""
    parser.add_argument("--json", type=writable_file, metavar="FILE", help=f"write {what} as JSON")


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    """Add --threads N."""
    parser.add_argument("--threads", type=thread_count, default=2, metavar="N", help="CPU threads (default 2)")


COMPOSED = ("student", "init", "teacher", "recipe", "schedule")
WORDS = ("lr", "batch", "steps", "epochs", "device", "unlabelled")
#: flag of one's own data -> argument of ``segkd.datasets.folder.FolderDataset``
FOLDER = {"images": "images", "labels": "labels", "classes": "class_names"} | {
    word: word for word in ("lists", "suffix", "format", "label_map", "ignore", "background", "val", "group")
}
RUN_FLAGS = (*COMPOSED, "data", "root", *FOLDER, "crop")


def load(args: argparse.Namespace, words: Sequence[str] = ()) -> dict[str, Any]:
    """The config that the arguments name or compose, with their overrides and the plain words among them."""
    from segkd.workbench.composing import compose
    from segkd.workbench.runs import open_run

    given = {word: getattr(args, word) for word in words}
    parts = {name: getattr(args, name, None) for name in COMPOSED}
    crop = getattr(args, "crop", None)
    if args.config is not None:
        if extra := next((name for name, value in parts.items() if value is not None), None):
            raise UserError(f"CONFIG says all of a run: leave out --{extra}, or CONFIG {args.config!r}")
        return open_run(args.config, data_of(args), args.root, args.overrides, size=crop, **given)
    if args.student is None:
        raise UserError("nothing named: give --student NAME and --data NAME (`segkd configs` lists them), or a CONFIG")
    return compose(**parts, data=data_of(args), root=args.root, size=crop, overrides=args.overrides, words=given)


def take_files(args: argparse.Namespace) -> None:
    """Take what stands in the place of CONFIG for the first FILE, where --student is given."""
    if args.student is not None and args.config is not None:
        args.config, args.files = None, [args.config, *args.files]


def data_of(args: argparse.Namespace) -> Any:
    """The data set of the arguments: a name, or those of one's own data."""
    known = FOLDER if hasattr(args, "classes") else {}
    own = {key: getattr(args, flag) for flag, key in known.items() if getattr(args, flag) is not None}
    if args.data is not None and args.data != "folder" and not Path(args.data).expanduser().is_dir():
        if own:
            flag = next(flag for flag, key in FOLDER.items() if key in own).replace("_", "-")
            raise UserError(f"--{flag} belongs to data of your own: --data folder, or --data DIR")
        return args.data
    if not own and args.data != "folder":
        return args.data
    if args.data in (None, "folder"):
        return dict(type="folder") | own
    from segkd.workbench.making import own_folder

    return own_folder(args.data) | own


def default_run(args: argparse.Namespace) -> Path:
    """The folder of a run unless --out names one: ``work/`` and what names it; the run folder that gave the config."""
    from segkd.workbench.runs import default_folder

    if args.config is not None:
        return default_folder(args.config)
    names = [Path(name).stem.replace(":", "_") for name in (args.student, args.recipe, args.data) if name]
    if args.teacher and not args.recipe:
        names.insert(1, "kd")
    return Path("work") / "_".join(names)


def parse_size(text: str) -> tuple[int, int]:
    """A size ``HxW`` in pixels, at least 32 each, as (H, W)."""
    height, sign, width = text.lower().partition("x")
    if not sign or not height.isdecimal() or not width.isdecimal() or min(int(height), int(width)) < 32:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HxW in pixels, 32 or more each, e.g. 360x480")
    return int(height), int(width)


def positive(text: str) -> int:
    """An integer from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer from 1 up")
    return int(text)


def thread_count(text: str) -> int:
    """A number of threads: whole, from 1 up to what the machine may bear."""
    count, most = positive(text), max(64, 4 * (os.cpu_count() or 1))
    if count > most:
        raise argparse.ArgumentTypeError(f"{text} are too many threads here: {most} at most")
    return count


def label_map(text: str) -> dict[str, str]:
    """``0:0,255:1`` or ``van:car,dust:void`` as a mapping."""
    pairs = [part.rpartition(":") for part in text.split(",")]
    if not all(sign and stored and target for stored, sign, target in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is no label map; write ID:CLASS,ID:CLASS, e.g. 0:0,255:1")
    return {stored.strip(): target.strip() for stored, _, target in pairs}


def id_or_name(text: str) -> int | str:
    """An id, or else a name."""
    return int(text) if text.isdecimal() else text


def share(text: str) -> float:
    """A number in 0..1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number in 0..1")
    return value


def white(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no value of a pixel: write e.g. 4095, 65535 or 1.0")
    return value


def say_comparison(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print the rows of `segkd.workbench.comparison.evaluate_models` as a table, and the IoU of every class.

    Below it are the parts of other metrics that are means.
    """
    from segkd.report.tables import METRICS, class_table, comparison_table

    say(title, style="bold")
    console.print(comparison_table(rows))
    parts: dict[str, dict[str, Any]] = rows[0].get("parts", {})
    names = list(rows[0]["iou"])
    if len(rows) == 1:
        alike = {metric: values for metric, values in parts.items() if list(values) == names}
        columns = {"IoU": rows[0]["iou"]} | {METRICS[metric].replace("\n", " "): v for metric, v in alike.items()}
        shown = {title: list(values.values()) for title, values in columns.items()}
        console.print(class_table(shown, names, "per class (%)" if alike else "IoU per class (%)"))
        parts = {metric: values for metric, values in parts.items() if metric not in alike}
    else:
        console.print(class_table({row["name"]: list(row["iou"].values()) for row in rows}, names))
    for metric, of_first in parts.items():
        by_model = {row["name"]: list(row["parts"][metric].values()) for row in rows}
        console.print(class_table(by_model, list(of_first), f"{METRICS[metric]} (%)".replace("\n", " ")))


def save_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write the command's result where --json says."""
    from segkd.report.tables import write_json

    if path:
        write_json(path, content)
        say(f"wrote {path}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return content


@contextmanager
def following() -> Iterator[Follow]:
    """A function that shows how far a workbench function is, in a bar that begins anew with each thing it does."""
    from segkd.report.progress import following as shown

    with shown(console) as follow:
        yield follow
