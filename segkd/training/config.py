"""The config of a run, typed: one dataclass a section, a documented field a key; checked wherever it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segkd.errors import UserError
from segkd.evaluation.looking import Views
from segkd.training.quantize_keys import Quantize as Quantize
from segkd.training.section import Section as Section
from segkd.training.section import key as key
from segkd.training.values import (
    CROP,
    boolean,
    decay,
    dictionary,
    factors,
    folders,
    images,
    integer,
    metrics,
    one_of,
    pair,
    place,
    positive,
    split,
    view,
)

LOGGERS = ("tensorboard", "wandb", "mlflow")
MANY = max(64, 4 * (os.cpu_count() or 1))  # of threads or processes of a machine


@dataclass(frozen=True)
class Data(Section):
    """Images and labels, and how they become batches."""

    name = "data"
    dataset: Mapping[str, Any] = key("dict(type=..., root=...): the data set", check=dictionary)
    augment: Mapping[str, Any] = key(
        "dict(type=..., crop_size=(H, W)): what a training image and its label go through", check=dictionary
    )
    train: Mapping[str, Any] | None = key("arguments of the training split, over those of `dataset`", None, check=split)
    val: Mapping[str, Any] | None = key("arguments of the validation split", None, check=split)
    test: Mapping[str, Any] | None = key("arguments of the test split", None, check=split)
    unlabelled: str | Mapping[str, Any] | None = key(
        "images that only the teacher's terms see: a folder, or arguments of a data set, over those of `dataset`",
        None,
        check=images,
    )
    unlabelled_ratio: float = key("of them in a step, for each labelled image", 1.0, check=positive)
    teacher_view: str | Sequence[int] = key(
        "what teachers see: the student's `crop`; or the `whole` image without changes, or resized to H,W, and what "
        "they give is warped onto the crop",
        CROP,
        check=view,
    )
    batch_size: int = key("images in a step, of all processes together", 8, unit="images", check=integer(1))
    workers: int = key(
        "processes that load images, at most one a core; 0: the training loads them itself",
        0,
        check=integer(0, MANY, " here"),
    )
    cache: str | bool = key(
        "keep decoded training images on disk, 4 bytes a pixel, and map them into memory: in a folder, or with True in "
        "~/.cache/segkd/images; before the first step those are made that are missing or whose files have changed",
        False,
        check=place,
    )
    skip_bad: bool = key(
        "draw another image in the place of one whose file cannot be used, and say how many; else the training stops",
        False,
        check=boolean,
    )


@dataclass(frozen=True)
class Optim(Section):
    """The optimisers."""

    name = "optim"
    optimizer: Mapping[str, Any] = key("dict(type=..., lr=...): a class of torch's kind, or its name in torch.optim")
    clip_grad: Mapping[str, Any] | None = key("dict(max_norm=...): the gradient's largest norm", None)
    accumulate: int = key("batches whose mean gradient makes one step", 1, unit="batches", check=integer(1))
    paramwise: Mapping[str, Any] | None = key(
        "factors of learning rate and weight decay by kind of parameter, or by name", None
    )
    critic: Mapping[str, Any] | None = key(
        "dict(type=..., lr=...): the optimiser of a loss's critic; Adam at 4e-4 by default", None
    )


@dataclass(frozen=True)
class Schedule(Section):
    """The length of the training, and its learning rates."""

    name = "schedule"
    steps: int | None = key("length of the training; this or `epochs`", None, unit="steps", check=integer(1))
    epochs: int | None = key(
        "length of the training in passes over the training split", None, unit="epochs", check=integer(1)
    )
    val_interval: int | None = key(
        "steps between validations; by default an epoch, or all of `steps`", None, unit="steps", check=integer(1)
    )
    warmup: int = key(
        "steps in which the learning rate rises from a hundredth of itself", 0, unit="steps", check=integer(0)
    )
    policy: str | Mapping[str, Any] = key(
        "poly, cosine, step, exponential, constant, or dict(type=...) of torch.optim.lr_scheduler", "poly"
    )
    power: float | None = key("exponent of the policy poly; 0.9 by default", None)
    min_lr: float | None = key("learning rate at the end of poly and cosine; 0 by default", None)
    milestones: Sequence[int] | None = key("steps at which the policy step lowers the rate", None, unit="steps")
    gamma: float | None = key("factor of the learning rate in the policies step (0.1 by default) and exponential", None)
    interval: int | None = key("steps between two factors of the policy exponential; 1 by default", None, unit="steps")


PRECISION = one_of("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Engine(Section):
    """The machine's way of working, and what is logged and kept."""

    name = "engine"
    precision: str = key(
        "fp32, bf16 (autocast), fp16 (autocast and a scaled loss), or auto: bf16 where the device has it, else fp32",
        "fp32",
        check=PRECISION,
    )
    device: str = key("auto (a GPU where there is one), cpu, cuda, or cuda:1", "auto")
    teacher_precision: str | None = key("precision of the teachers; by default the student's", None, check=PRECISION)
    shard_teacher: bool = key(
        "share each teacher's weights out over the processes (FSDP2), for one too large for each", False, check=boolean
    )
    compile: bool = key("torch.compile of the student and the teachers", False, check=boolean)
    ema: float | None = key(
        "decay of a moving average of the student's weights, which is scored and kept beside them", None, check=decay
    )
    channels_last: bool = key(
        "memory layout of images; faster on CPUs in bf16 and on tensor cores", False, check=boolean
    )
    threads: int | None = key("CPU threads of torch; by default its own choice", None, check=integer(1, MANY, " here"))
    log_interval: int = key("steps between lines of the log", 20, unit="steps", check=integer(1))
    gradient_interval: int = key(
        "steps between measurements of each term's gradient; 0: never", 200, unit="steps", check=integer(0)
    )
    val_images: int = key(
        "images drawn at each validation beside truth and prediction; 0: none", 4, unit="images", check=integer(0)
    )
    logger: str | None = key(
        "tensorboard, wandb or mlflow: what gets the log and the drawn images, too, in the run's folder vis/",
        None,
        check=one_of(*LOGGERS),
    )
    best: str = key("the score that chooses the best weights; the larger, the better", "mIoU")


@dataclass(frozen=True)
class Evaluation(Section):
    """How images are looked at when they are scored, in validation and by `segkd eval`."""

    name = "evaluation"
    flip: bool = key("average over each image and its mirror image", False, check=boolean)
    scales: Sequence[float] = key("average over these sizes, as factors of the image's own", (1.0,), check=factors)
    window: Sequence[int] | None = key(
        "(H, W) of windows that are averaged; by default an image is seen as a whole",
        None,
        unit="pixels",
        check=pair(32),
    )
    stride: Sequence[int] | None = key(
        "(H, W) by which windows are moved; by default two thirds of them", None, unit="pixels", check=pair(1)
    )

    def views(self, flip: Any = None, scales: Any = None, window: Any = None, stride: Any = None) -> Views:
        """How images are looked at; what is given goes before the section. A UserError for what cannot be."""
        own = self.window if window is None else window
        moved = stride or (self.stride if window is None else None)
        return Views(
            self.flip if flip is None else flip,
            tuple(self.scales if scales is None else scales),
            None if own is None else (int(own[0]), int(own[1])),
            None if moved is None else (int(moved[0]), int(moved[1])),
        )


SECTIONS: dict[str, type[Section]] = {
    "data": Data,
    "optim": Optim,
    "schedule": Schedule,
    "engine": Engine,
    "evaluation": Evaluation,
    "quantize": Quantize,
}


@dataclass(frozen=True)
class Config(Section):
    """All that makes a run."""

    model: Mapping[str, Any] = key(
        "dict(type=Segmentor, network=..., ...) or dict(type=Distiller, student=..., teacher=..., binds=...)"
    )
    data: Data = key("images and labels, and how they become batches")
    optim: Optim = key("the optimisers")
    schedule: Schedule = key("the length of the training, and its learning rates")
    engine: Engine = key("the machine's way of working, and what is logged and kept", Engine())
    evaluation: Evaluation = key("how images are looked at when they are scored", Evaluation())
    quantize: Quantize | None = key("quantization-aware training: the rounding of an int8 file while it learns", None)
    metrics: Sequence[str | Mapping[str, Any]] | None = key(
        "list of names (`miou`, `boundary_iou`, ...) and of dict(type=...) with reset, update, compute; by default "
        "mIoU, mAcc and aAcc",
        None,
        check=metrics,
    )
    hooks: Sequence[Mapping[str, Any]] = key(
        "list of dict(type=...): own code at points of the training, by mmengine's protocol", ()
    )
    seed: int = key("seed of weights, order, augmentation, dropout and draws", 0, check=integer(0, 2**32 - 1))
    imports: Sequence[str] = key("folders of the user's own modules", (), check=folders)

    @classmethod
    def of(cls, given: Mapping[str, Any] | Config) -> Config:
        """A config from what ``load_config`` gives, or any mapping of that form; a Config passes through."""
        if isinstance(given, Config):
            return given
        for name, kind in SECTIONS.items():  # a misspelt key is told before what it makes missing
            if cls.known(given).get(name) is not None:
                kind.known(given[name])
        sections = {name: kind.read(given[name]) for name, kind in SECTIONS.items() if given.get(name) is not None}
        found: Config = cls.read({**given, **sections})
        try:
            found.evaluation.views()
        except UserError as error:
            raise UserError(f"config: evaluation: {error}") from error
        if found.quantize is not None:
            found.quantize.check(found.engine)
        if (found.schedule.steps is None) == (found.schedule.epochs is None):
            raise UserError("the config has no schedule.steps: give it, or schedule.epochs, and not both")
        return found

    def with_steps(self, images: int) -> Config:
        """This config with ``schedule.steps`` and ``val_interval`` set, for a training split of that many images."""
        schedule = self.schedule
        epoch = max(1, -(-images // self.data.batch_size))
        steps = schedule.steps or -(-images * (schedule.epochs or 0) // self.data.batch_size)
        interval = schedule.val_interval or (epoch if schedule.epochs else steps)
        return replace(self, schedule=replace(schedule, steps=steps, val_interval=min(interval, steps)))
