"""``segkd``: parses the command line, runs one subcommand, turns a user's mistake into one line and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import segkd
from segkd.errors import UserError

COMMANDS = ("demo", "train", "eval", "bench", "export", "quantize", "predict", "inspect", "configs")


def parser() -> argparse.ArgumentParser:
    """The whole command line; the subcommands' modules import nothing heavy until they run."""
    top = argparse.ArgumentParser(prog="segkd", description=segkd.__doc__)
    top.add_argument("--version", action="version", version=f"segkd {segkd.__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"segkd.cli.{name}").add(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else albumentations looks for updates online at import
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not take the cores from working ones
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except UserError as error:
        print(f"segkd {args.command}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"segkd {args.command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
