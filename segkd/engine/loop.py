"""The training loop: mmengine's, on a loader that already starts at the resumed step."""

from __future__ import annotations

from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop


@LOOPS.register_module()
class StepLoop(IterBasedTrainLoop):
    """``IterBasedTrainLoop`` without its fast-forward: the sampler is a function of the step, so nothing is skipped."""

    def run(self) -> Any:
        """Train from ``self._iter`` to the last step; validate at the interval and at the end."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
            if self.runner.val_loop is not None and due:
                self.runner.val_loop.run()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model
