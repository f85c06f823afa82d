"""``segkd``: parses the command line, runs one subcommand, turns a user's mistake into one line and exit code 2.

What is slow to import is imported in the functions, after Ctrl-C has got its meaning.
"""

from __future__ import annotations

import os
import sys

from segkd.cli.signals import Signals

TYPE_CHECKING = False  # typing's own takes 10 ms to import
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

COMMANDS = (
    "demo",
    "train",
    "eval",
    "bench",
    "export",
    "quantize",
    "ship",
    "predict",
    "label",
    "cache",
    "inspect",
    "check",
    "advise",
    "compare",
    "models",
    "import-weights",
    "configs",
    "data",
)
MISTAKE = 2  # exit code, as argparse has it


def parser() -> ArgumentParser:
    """The whole command line; the subcommands' modules import nothing heavy until they run."""
    import importlib

    import segkd
    from segkd.cli.usage import Parser

    top = Parser(prog="segkd", description=segkd.__doc__)
    top.add_argument("--version", action="version", version=f"segkd {segkd.__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"segkd.cli.{name.replace('-', '_')}").add(subparsers)
    return top


def parse(argv: Sequence[str] | None) -> Namespace:
    """The arguments; `--set A=1 B=2` is not understood, but its cure is named."""
    from segkd.errors import UserError

    known = parser()
    args, unknown = known.parse_known_args(argv)
    if unknown and argv is not None and not any(word.startswith("-") or "=" in word for word in unknown):
        args, unknown = known.parse_known_args(in_front(argv, unknown))
    if unknown:
        is_override = "=" in unknown[0] and not unknown[0].startswith("-")
        raise UserError(
            f"unrecognized argument {unknown[0]!r}" + ("; each KEY=VALUE needs its own --set" if is_override else "")
        )
    return args


def in_front(argv: Sequence[str], late: Sequence[str]) -> list[str]:
    """The words of a command line with those that come after options before them: argparse takes no others.

    Args:
        argv: the command's name and its words.
        late: those that argparse left over, in their order.
    """
    words = list(argv)
    for word in reversed(late):
        del words[len(words) - 1 - words[::-1].index(word)]
    first = next((k for k, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:first], *late, *words[first:]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 after a mistake, 130 after Ctrl-C, 143 after SIGTERM."""
    words = sys.argv[1:] if argv is None else list(argv)
    prefix = f"segkd {words[0]}" if words and words[0] in COMMANDS else "segkd"
    with Signals(prefix) as signals:
        try:
            return _run(words, prefix)
        except KeyboardInterrupt as stop:
            return signals.end(stop)


def _run(words: Sequence[str], prefix: str) -> int:
    from segkd.cli import streams
    from segkd.errors import UserError

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # a user's own: it looks for updates online at import
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not take the cores from working ones
    try:
        streams.check()
        code = _obey(words)
        streams.flush()
    except UserError as error:
        streams.complain(f"{prefix}: error: {error}")
        return MISTAKE
    except BrokenPipeError:  # the reader of our output has gone (`segkd configs | head`): no error, nothing to say
        streams.let_go_of_output()
        return 0
    except OSError as error:
        if error.filename == streams.OUTPUT:
            streams.let_go_of_output()
        what = error.strerror or str(error)
        streams.complain(f"{prefix}: error: {what if error.filename is None else f'{error.filename}: {what}'}")
        return MISTAKE
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0][:200]
        streams.complain(f"{prefix}: error: out of memory: choose a smaller batch, crop or size ({reason})")
        return MISTAKE
    return code


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error of Python, torch, CUDA, OpenCV or ONNX Runtime is about memory that could not be had."""
    signs = ("out of memory", "allocate memory", "bad_alloc", "bad allocation", "insufficient memory")
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in signs)


def _obey(words: Sequence[str]) -> int:
    """Run the subcommand; argparse exits on its own after --help and on words that it can't read."""
    try:
        args = parse(words)
        args.run(args)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
