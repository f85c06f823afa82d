"""The parser of the command line, whose complaints are one line like any other error."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from segkd.cli.streams import naming_output


class Parser(argparse.ArgumentParser):
    """argparse's, but a mistake is told without the usage, and an output that can't take the help isn't passed over."""

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2 and one line."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}; see {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is not sys.stdout:
            super()._print_message(message, file)
            return
        with naming_output():
            file.write(message)
