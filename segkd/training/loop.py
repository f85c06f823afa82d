"""One training run, top to bottom: prepare, first stages, steps, validate, keep, finish."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

from segkd.datasets.base import DataError
from segkd.datasets.image_cache import fill, statement
from segkd.memory import keep_freed_memory
from segkd.models.base import Network
from segkd.report.tables import write_json
from segkd.segmentor import TrainingModel
from segkd.training import processes
from segkd.training.bad_files import with_state_kept
from segkd.training.build import image_cache, readable
from segkd.training.config import Config
from segkd.training.configfile import dump_config
from segkd.training.first_stage import Report, run_first_stages
from segkd.training.labels import missing_classes
from segkd.training.log import trim_log
from segkd.training.optim import STUDENT
from segkd.training.prepare import Prepared
from segkd.training.scales import settle_scales
from segkd.training.state import BEST, EMA, LAST, STATE, run_folder, save_atomically, save_student
from segkd.training.steps import Batch, Stretch, Values, take_steps
from segkd.training.validation import class_scores, main_score, score
from segkd.training.watch import TermWarning


def train(
    cfg: Mapping[str, Any] | Config,
    run: str | Path,
    *,
    resume: bool = False,
    hooks: Sequence[Any] = (),
    model: TrainingModel | None = None,
    on_first_stage: Report | None = None,
) -> dict[str, Any]:
    """Train one config in the folder ``run``; returns what is written to its ``metrics.json``.

    Started by torchrun, the processes share every batch, and the first one writes the files.

    Args:
        cfg: from ``segkd.training.config.load_config``.
        run: the run folder; must be new unless ``resume``.
        resume: go on from the folder's last state.
        hooks: further hooks (progress).
        model: a built training model, else it is built from the config.
        on_first_stage: takes {"first_stage": name, "step": ..., "steps": ..., "loss": ...} as first stages advance.

    Raises:
        UserError: wrong config, data or weights; a folder that already holds a run; nothing to resume.
    """
    keep_freed_memory()
    with processes.process_group():
        training = Training(cfg, Path(run), resume, hooks, model)
        loaders = training.loaders
        with training.open_folder(), closing(training.hooks), closing(loaders["train"]), closing(loaders["val"]):
            training.keep_images()
            training.run_first_stages(on_first_stage)
            training.make_ready()
            training.run_steps()
            return training.finish()


class Training(Prepared):
    """A run in progress (see ``Prepared`` for what it holds); every hook gets it as its first argument."""

    def open_folder(self) -> AbstractContextManager[None]:
        """The run folder, made and cleaned up by one process."""
        return run_folder(self.folder, self.resume) if processes.is_main() else nullcontext()

    def keep_images(self) -> None:
        """Keep the decoded images that are not yet, if the config says so; one process does, the others wait."""
        cache = image_cache(self.cfg, self.data)
        if cache is not None and processes.is_main() and (missing := cache.missing()):
            self.write({"step": self.iter, "note": (said := statement(cache, missing))})
            self.hooks.call("after_image_kept", self, said=said, done=0, total=len(missing))
            for done in fill(cache, missing, self.cfg.data.workers, self.cfg.data.skip_bad):
                self.hooks.call("after_image_kept", self, said=said, done=done, total=len(missing))
        processes.wait()

    def run_first_stages(self, report: Report | None) -> None:
        """Keep the config, then run the trainings that come before the main one."""
        self.model.to(self.device)
        kept = self.folder if self.resume else None
        self.given, notes = settle_scales(self.given, self.cfg, self.model, self.data, kept)
        self.notes += notes
        if processes.is_main():
            dump_config(self.given, self.folder / "config.py")
            if self.resume:
                trim_log(self.folder, self.iter)
            for note in self.notes:
                self.write({"step": self.iter, "note": note})
            if not self.resume and (advice := missing_classes(readable(self.cfg, self.data))):
                self.write({"step": 0, "warning": advice})
                warnings.warn(advice, TermWarning, stacklevel=2)
        self.hooks.call("before_first_stages", self)
        done = self.state is not None
        run_first_stages(self.cfg, self.folder, self.model, self.data, report, self.resume, done)

    def run_steps(self) -> None:
        """Take the steps that are left."""
        self.began = time.perf_counter()
        self.hooks.call("before_run", self)
        self.hooks.call("before_train", self)
        self.hooks.call("before_train_epoch", self)
        self.means.start()
        if self.state is not None:
            self.catch_up()
        losses = self.parallel or self.model
        stretch = Stretch(
            self.model, lambda batch: losses(**batch), self.minimizers, self.precision, self.loaders["train"],
            self.iter, self.seed, self.before_step, self.after_step, self.parallel,
        )  # fmt: skip
        try:
            take_steps(stretch)
        except DataError as error:
            raise with_state_kept(error, self.iter, self.keep_state_alone) from error
        self.hooks.call("after_train_epoch", self)

    def keep_state_alone(self) -> bool:
        """Keep the state now, if it can be had between two steps by one process; whether it was kept."""
        if processes.world_size() > 1 or not self.minimizers[STUDENT].stepped():
            return False
        self.save_state()
        return True

    def catch_up(self) -> None:
        """Do what a run that was stopped had yet to do after its state was saved."""
        self.keep_best()
        if not self.history and (self.iter % self.interval == 0 or self.iter == self.max_iters):
            self.validate()

    def before_step(self, step: int, batch: Batch) -> None:
        """What precedes a step."""
        self.skipped.take(self.loaders["train"], step)
        self.rate = float(self.optimizers[STUDENT].param_groups[0]["lr"])
        self.watch.before(self.model, step)
        self.hooks.call("before_train_iter", self, batch_idx=step, data_batch=batch)

    def after_step(self, step: int, batch: Batch, values: Values) -> bool:
        """What follows a step: rates, log, hooks, state, validation; whether it was the last."""
        done, stepped = step + 1, self.minimizers[STUDENT].stepped()
        self.finite.add(values, done)
        if stepped:
            self.model.after_step()
            if self.average:
                self.average.update(self.model.student)
        for rates in self.rates:
            rates.step()
        self.watch.after(self.model, step, values)
        self.means.add(values)
        if done % self.log_interval == 0 or done == self.max_iters:
            self.write({"step": done, "lr": self.rate, **self.means.take()})
        self.hooks.call("after_train_iter", self, batch_idx=step, data_batch=batch, outputs=values)
        self.iter = done
        last = done == self.max_iters or self.stop_training
        self.state_due |= done % self.interval == 0 or last
        self.save_due_state()
        if done % self.interval == 0 or last:
            self.validate()
        return last or self.stop_training

    def validate(self) -> None:
        """Score the student on the validation split, and keep it if it is the best so far."""
        self.hooks.call("before_val", self)
        self.hooks.call("before_val_epoch", self)
        self.finite.check(self.iter)
        processes.share_buffers(self.model)
        if self.average:
            processes.share_buffers(self.average.network)
        self.model.eval()
        record: dict[str, Any] = {"step": self.iter}
        for name, network, _ in self.networks():
            record[name] = score(
                network, self.loaders["val"], self.metrics, self.after_val_batch, self.views, self.instances_of
            )
            self.class_scores[name] = class_scores(self.metrics)
            found, best = main_score(record[name], self.chosen_by), self.bests.get(name, {}).get(self.chosen_by)
            if best is None or found > best or math.isnan(best):
                self.bests[name] = {self.chosen_by: found, "step": self.iter}
                self.state_due = True  # the state of this step was saved before its validation
        self.history.append(record)
        self.save_due_state()
        self.keep_best()
        self.write(record)  # last: what is in the log is in the state
        self.hooks.call("after_val_epoch", self, metrics=record["val"])
        self.hooks.call("after_val", self)
        self.means.restart_clock()

    def networks(self) -> Iterator[tuple[str, Network, str]]:
        """What is scored: its name in the log, and the file of its best weights."""
        yield "val", self.model.student, BEST
        if self.average:
            yield "val_ema", self.average.network, EMA

    def keep_best(self) -> None:
        """Keep the weights of this step that are the best so far."""
        for name, network, file in self.networks():
            if self.bests.get(name, {}).get("step") == self.iter:
                self.save_student(network, file)

    def after_val_batch(self, number: int, batch: Batch, prediction: Tensor) -> None:
        """Tell the hooks of a batch that was scored."""
        self.hooks.call("after_val_iter", self, batch_idx=number, data_batch=batch, outputs=prediction)

    def save_student(self, network: Network, name: str) -> None:
        """Keep weights of the student."""
        self.finite.check(self.iter)
        if processes.is_main():
            save_student(network, self.folder / name)

    def save_due_state(self) -> None:
        """Keep the state if it is time, before weights: on a full disk there is one beside them."""
        if self.state_due and self.minimizers[STUDENT].stepped():  # what has accumulated is in no state
            self.save_state()

    def save_state(self) -> None:
        """Keep all that resuming needs, in types that ``weights_only=True`` loads."""
        self.state_due = False
        self.finite.check(self.iter)
        if processes.is_main():
            optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
            content = {"step": self.iter, "seed": self.seed, "model": self.model.state_dict(), "best": self.bests}
            content |= {"optimizers": optimizers, "scaler": self.precision.state_dict()}
            content["skipped"] = dict(self.skipped.draws)
            content["average"] = self.average.state_dict() if self.average else None
            save_atomically(content, self.folder / STATE)

    def finish(self) -> dict[str, Any]:
        """Keep the last state and weights, and say what happened in ``metrics.json``."""
        if self.state_due:
            self.save_state()
        self.save_student(self.model.student, LAST)
        self.hooks.call("after_train", self)
        self.hooks.call("after_run", self)
        skipped = self.skipped.summary()
        metrics = {
            "steps": self.iter,
            "steps_planned": self.max_iters,
            "val_last": self.history[-1]["val"] if self.history else None,
            "val_best": self.best or None,
            **({"ema_best": self.bests.get("val_ema"), "student_ema": EMA} if self.average else {}),
            "student_last": LAST,
            "student_best": BEST,
            "seconds_of_this_sitting": round(time.perf_counter() - self.began, 1),
            "processes": processes.world_size(),
            "precision": self.cfg.engine.precision,
            **({"skipped": skipped} if skipped else {}),
            **self.environment,
        }
        if processes.is_main():
            write_json(self.folder / "metrics.json", metrics)
        return metrics

    @property
    def best(self) -> dict[str, Any]:
        """The student's best score so far with its step; empty before the first validation."""
        found: dict[str, Any] = self.bests.get("val", {})
        return found
