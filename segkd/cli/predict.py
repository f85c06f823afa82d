"""``segkd predict``: images, folders, videos or a camera -> overlays, class ids, colours, scores."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from segkd.cli.common import add_threads_argument, console, positive, say, share, white
from segkd.cli.eval import add_view_arguments
from segkd.cli.streams import complain
from segkd.files import writable_file

if TYPE_CHECKING:
    from segkd.workbench.predicting import Predicted
    from segkd.workbench.prediction import Share

DESCRIPTION = """Segments what is named, and writes results under the names of the images. One image or video gives a
file in the working folder, several give a folder; of several kinds of results, each gets a folder in it. A file that
can't be read stops the work: what came before it is written, nothing is left half-written."""


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "predict", help="segment images, folders, videos or a camera; writes overlays, class ids, scores",
        description=DESCRIPTION,
    )  # fmt: skip
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="an image of any size, a folder (and those in it), a 'pattern/**/*.jpg', a list (.txt, a file on each "
        "line), a video, camera:0, or - (an image on standard input)",
    )
    _add_model(parser)
    _add_results(parser)
    _add_views(parser)
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out what can't be read, and list it at the end (default: stop)"
    )
    parser.add_argument("--strict", action="store_true", help="of --skip-bad: exit code 1 if anything was left out")
    parser.set_defaults(run=run)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="ONNX file, run folder, weights (.pth) in one, a released network (default fast_scnn_camvid), "
        "NETWORK@FILE, or what else --teacher takes",
    )
    parser.add_argument("--classes", metavar="NAME|FILE", help="data set or text file that names a model's classes")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: a GPU; ONNX files: the CPU)")
    parser.add_argument(
        "--batch", type=positive, default=1, metavar="N", help="images of one size per call (default 1)"
    )
    add_threads_argument(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    results = parser.add_argument_group("results")
    results.add_argument("--out", metavar="FILE|DIR", help="where to (default: NAME_segmented in the working folder)")
    results.add_argument(
        "--write",
        default="overlay",
        metavar="KIND,KIND",
        help="overlay (default), colours (palette PNG), ids (PNG of classes), cityscapes (PNG of its server's ids), "
        "soft (npz of all classes' probabilities, float16); of a video, overlay and colours are videos, others a file "
        "for each frame",
    )
    results.add_argument("--alpha", type=share, default=0.5, metavar="A", help="weight of the colours (default 0.5)")
    results.add_argument("--legend", choices=("file", "beside"), help="the classes' colours: a PNG, or in the overlays")
    results.add_argument(
        "--json", type=writable_file, metavar="FILE", help="write each image's shares of classes as JSON"
    )
    results.add_argument("--fps", type=rate, metavar="F", help="frames per second of videos (default: as they come)")
    results.add_argument("--frames", type=positive, metavar="N", help="stop each video or camera after N frames")
    there = results.add_mutually_exclusive_group()
    there.add_argument("--force", action="store_true", help="write over results that are there (default: refuse)")
    there.add_argument("--skip-done", action="store_true", help="keep results that are there, make the missing ones")


def _add_views(parser: argparse.ArgumentParser) -> None:
    views = parser.add_argument_group("how images are read and looked at")
    views.add_argument("--as-stored", action="store_true", help="read images without turning them as their tags say")
    views.add_argument("--white", type=white, metavar="V", help="the value that is white in images of more than 8 bits")
    add_view_arguments(views)


def rate(text: str) -> float:
    """A number of frames per second."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} are no frames per second: a number above 0, up to 1000")
    return value


def run(args: argparse.Namespace) -> None:
    """Segment all, write, and print the shares of the classes."""
    from segkd.report.progress import following
    from segkd.workbench.predicting import Views, carry_out, plan
    from segkd.workbench.predictors import open_predictor

    planned = plan(
        args.sources, out=args.out, write=args.write, alpha=args.alpha, legend=args.legend, json=args.json,
        force=args.force, skip_done=args.skip_done,
    )  # fmt: skip
    if not planned.sources:
        say(f"all {planned.done} results are there already")
        return
    predictor = open_predictor(args.model, args.device, args.threads, args.classes)
    views = Views(bool(args.flip), args.scales or (1.0,), args.window, args.stride)
    with following(console, unit="images") as progress:
        found = carry_out(
            planned, predictor, batch=args.batch, views=views, frames=args.frames, fps=args.fps,
            skip_bad=args.skip_bad, upright=not args.as_stored, white=args.white, progress=progress,
        )  # fmt: skip
    _say_shares(found.shares)
    _say_result(found)
    if planned.json:
        say(f"wrote {planned.json}")
    for source, problem in found.bad:
        complain(f"left out {source}: {problem.removeprefix(f'{source}: ')}")
    if found.bad and args.strict:
        raise SystemExit(1)


def _say_shares(shares: list[Share]) -> None:
    for name, percent, (red, green, blue) in shares:
        if percent >= 0.05:
            if console.is_terminal:
                console.print("██", style=f"rgb({red},{green},{blue})", end=" ")
            say(f"{name:<14} {percent:5.1f} %")


def _say_result(found: Predicted) -> None:
    """What was written, where, and how fast."""
    for note in found.notes:
        say(f"note: {note}")
    parts = [f"{found.images} images"] if found.images else []
    if found.videos:
        codecs = f" ({', '.join(sorted(found.codecs))})" if found.codecs else ""
        parts += [f"{found.frames} frames of {found.videos} video{'s' * (found.videos > 1)}{codecs}"]
    parts += [f"{found.done} were there"] if found.done else []
    parts += [f"{len(found.bad)} left out"] if found.bad else []
    if found.images == 1 and len(parts) == 1:
        say(f"wrote {found.out}")
        return
    say(f"wrote {found.out}: {', '.join(parts)}; {found.rate:.1f} images/s")
