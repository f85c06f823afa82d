"""A run's log and pictures in TensorBoard, Weights & Biases or MLflow, through mmengine's backends."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from segkd.errors import UserError, first_line
from segkd.files import replacing
from segkd.report.pictures import Image
from segkd.training import processes
from segkd.training.config import Config
from segkd.training.configfile import CONFIG, textual
from segkd.training.pictures import Curves, ValImages, file_of
from segkd.training.state import VIS

RUN_ID = "run_id"  # a file in the folder: which run of the tracker a resumed run goes on with


def display_hooks(cfg: Config) -> list[Any]:
    """The hooks that show a training in its folder and in a logger; one process has them.

    Raises:
        UserError: in every process, if the logger's package cannot be imported.
    """
    name = cfg.engine.logger
    if name is not None and find_spec(name) is None:
        raise UserError(f"engine.logger={name!r} needs a package that is not installed: pip install {name}")
    if not processes.is_main():
        return []
    pictures = [ValImages(cfg.engine.val_images)] if cfg.engine.val_images else []
    return [*pictures, Curves(), *([RunLogger(name, *pictures)] if name else [])]


class RunLogger:
    """A hook that hands the lines of the run's log, and the pictures of its validations, to a logger.

    Args:
        name: "tensorboard", "wandb" or "mlflow".
        pictures: the hook that draws validation images, if there is one; called before this one.
    """

    priority = "LOW"

    def __init__(self, name: str, pictures: ValImages | None = None) -> None:
        self.name, self.pictures = name, pictures
        self.log: RunLog | None = None

    def before_first_stages(self, training: Any) -> None:
        """Start the logger, or go on with what a resumed run has logged."""
        kinds: dict[str, type[RunLog]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
        try:
            self.log = kinds[self.name](training.folder / VIS, training)
        except Exception as error:
            raise UserError(f"engine.logger={self.name!r} cannot start: {first_line(error)}") from error

    def after_log(self, training: Any, record: Mapping[str, Any]) -> None:
        """Log the numbers of a line."""
        if self.log is not None and (found := scalars(record)):
            self.log.scalars(found, record["step"])

    def after_val_epoch(self, training: Any, metrics: Mapping[str, float]) -> None:
        """Log the picture of the validation."""
        if self.log is not None and self.pictures is not None and self.pictures.sheet is not None:
            self.log.image(self.pictures.sheet, training.iter)

    def after_run(self, training: Any) -> None:
        """End well."""
        self.close(done=True)

    def close(self, done: bool = False) -> None:
        """End the logger's run, if it has not ended yet: it was stopped, unless ``done``."""
        if self.log is not None:
            self.log.close(done)
            self.log = None


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of the log by kind and name: train/loss, val/mIoU, gradients/loss_main; else none."""
    if "loss" in record:
        return {f"train/{name}": value for name, value in record.items() if name != "step"}
    kind = next((kind for kind in ("val", "gradients") if kind in record), None)
    return {f"{kind}/{name}": value for name, value in record[kind].items()} if kind else {}


class RunLog(Protocol):
    """What a logger does with a run; ``step`` counts the run's steps, also of one that was resumed."""

    def __init__(self, folder: Path, training: Any) -> None: ...

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by their names."""

    def image(self, picture: Image, step: int) -> None:
        """Log a picture (H, W, 3) uint8 RGB of validation images."""

    def close(self, done: bool) -> None:
        """End the logger's run."""


class TensorBoard:
    """Event files in the folder: ``tensorboard --logdir work`` shows them."""

    def __init__(self, folder: Path, training: Any) -> None:
        from mmengine.visualization import TensorboardVisBackend

        self.backend = TensorboardVisBackend(str(folder))
        text = (training.folder / CONFIG).read_text(encoding="utf-8")
        self.backend.experiment.add_text("config", f"```python\n{text}\n```", training.iter)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.backend.add_scalars(dict(values), step)
        self.backend.experiment.flush()  # else a run that is stopped loses the last two minutes

    def image(self, picture: Image, step: int) -> None:
        self.backend.add_image("val_images", picture, step)

    def close(self, done: bool) -> None:
        self.backend.close()


class WeightsAndBiases:
    """A run of the project ``segkd``, or of that in WANDB_PROJECT; WANDB_MODE=offline keeps it in the folder."""

    def __init__(self, folder: Path, training: Any) -> None:
        from mmengine.visualization import WandbVisBackend

        own = kept(folder) if training.resume else None
        start = dict(
            project=os.environ.get("WANDB_PROJECT", "segkd"),
            name=training.folder.name,
            id=own or uuid4().hex,
            resume="allow",
            config=textual(dict(training.given)),
        )
        axis = [dict(name="step"), dict(name="*", step_metric="step")]  # wandb counts calls, unless told of steps
        self.backend = WandbVisBackend(str(folder), init_kwargs=start, define_metric_cfg=axis)
        self.wandb = self.backend.experiment  # starts it
        keep(folder, start["id"])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.backend.add_scalars({**values, "step": step})

    def image(self, picture: Image, step: int) -> None:
        self.wandb.log({"val_images": self.wandb.Image(picture), "step": step})

    def close(self, done: bool) -> None:
        self.wandb.finish(0 if done else 1)


class MLflow:
    """A run in ``mlflow.db`` in the folder, or at MLFLOW_TRACKING_URI; ``mlflow ui --backend-store-uri`` shows it."""

    def __init__(self, folder: Path, training: Any) -> None:
        from mmengine.logging import MMLogger
        from mmengine.visualization import MLflowVisBackend

        MMLogger.get_current_instance().setLevel(logging.ERROR)  # it reminds of a server, which a file does not need
        at, files = os.environ.get("MLFLOW_TRACKING_URI"), None
        if at is None:
            at, files = f"sqlite:///{folder.resolve() / 'mlflow.db'}", (folder.resolve() / "artifacts").as_uri()
        self.backend = MLflowVisBackend(str(folder), exp_name="segkd", tracking_uri=at, artifact_location=files)
        self.mlflow = self.backend.experiment
        own = kept(folder) if training.resume else None
        run = self.mlflow.start_run(run_id=own, run_name=None if own else training.folder.name)
        keep(folder, run.info.run_id)
        self.mlflow.log_artifact(str(training.folder / CONFIG))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.backend.add_scalars(dict(values), step)

    def image(self, picture: Image, step: int) -> None:
        self.backend.add_image(file_of(step).as_posix(), picture, step)

    def close(self, done: bool) -> None:
        self.mlflow.end_run("FINISHED" if done else "KILLED")


def kept(folder: Path) -> str | None:
    """The id of the logger's run that the folder belongs to; None if there was none yet."""
    file = folder / RUN_ID
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def keep(folder: Path, run_id: str) -> None:
    """Write the id of the logger's run."""
    with replacing(folder / RUN_ID) as temporary:
        temporary.write_text(run_id + "\n", encoding="utf-8")
