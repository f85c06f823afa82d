"""mmengine's Runner, quiet on the console and resumed from segkd's own state files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

from segkd.engine.checkpoint import restore


class SegRunner(Runner):
    """Runner that logs to files alone and resumes from a state given by the caller.

    Args:
        state: the content of a state file, or None to start anew.
        **kwargs: mmengine's Runner arguments.
    """

    def __init__(self, state: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        self.state = state
        super().__init__(**kwargs)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The same logger without its console handler; the command line draws its own progress."""
        logger = super().build_logger(*args, **kwargs)
        logger.handlers = [h for h in logger.handlers if isinstance(h, logging.FileHandler)]
        return logger

    def load_or_resume(self) -> None:
        """Called by ``train`` once optimiser and schedulers exist."""
        if self.state is not None:
            restore(self, self.state)
