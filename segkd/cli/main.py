"""``segkd``: parses the command line, runs one subcommand, turns a user's mistake into one line and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

import segkd
from segkd.errors import UserError

COMMANDS = (
    "demo",
    "train",
    "eval",
    "bench",
    "export",
    "quantize",
    "predict",
    "inspect",
    "models",
    "import-weights",
    "configs",
)


def parser() -> argparse.ArgumentParser:
    """The whole command line; the subcommands' modules import nothing heavy until they run."""
    top = argparse.ArgumentParser(prog="segkd", description=segkd.__doc__)
    top.add_argument("--version", action="version", version=f"segkd {segkd.__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"segkd.cli.{name.replace('-', '_')}").add(subparsers)
    return top


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; `--set A=1 B=2` is not understood, but its cure is named."""
    top = parser()
    args, unknown = top.parse_known_args(argv)
    if unknown:
        is_override = "=" in unknown[0] and not unknown[0].startswith("-")
        top.error(
            f"unrecognized argument {unknown[0]!r}" + ("; each KEY=VALUE needs its own --set" if is_override else "")
        )
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else albumentations looks for updates online at import
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not take the cores from working ones
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows ?, and does not end the command
    prefix = "segkd"
    try:
        args = parse(argv)
        prefix = f"segkd {args.command}"
        args.run(args)
        sys.stdout.flush()
    except UserError as error:
        return _fail(f"{prefix}: error: {error}")
    except KeyboardInterrupt:
        return _fail(f"{prefix}: interrupted", 130)
    except BrokenPipeError:  # the reader of our output has gone (`segkd configs | head`): no error, nothing to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{prefix}: error: {error.filename}: {error.strerror}")
    return 0


def _fail(text: str, code: int = 2) -> int:
    print(" ".join(text.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
