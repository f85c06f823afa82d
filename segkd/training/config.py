"""The config of a run, typed: one dataclass a section, a documented field a key; checked wherever it comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, ClassVar

from segkd.arguments import flag, number, whole
from segkd.errors import UserError, nearest

MANY = max(64, 4 * (os.cpu_count() or 1))  # of threads or processes of a machine
Check = Callable[[Any, str], Any]  # (value, key) -> the value in its own type, or a UserError


def key(doc: str, default: Any = MISSING, *, unit: str = "", check: Check | None = None) -> Any:
    """A key of the config: what it is, its default (none: it must be given), its unit, and how it is checked."""
    return field(default=default, metadata={"doc": doc, "unit": unit, "check": check})


def integer(least: int, most: int | None = None, why: str = "") -> Check:
    """A check for an integer in a range; one written as a float (1e3) becomes an int."""

    def check(value: Any, name: str) -> int:
        found = whole(value, name, "config", least)
        if most is not None and found > most:
            raise UserError(f"config: {name} must be {most} or less{why}, got {found}")
        return found

    return check


def boolean(value: Any, name: str) -> bool:
    """A check for True or False."""
    return flag(value, name, "config")


def dictionary(value: Any, name: str) -> Any:
    """A check for a dictionary."""
    if not isinstance(value, Mapping):
        raise UserError(f"config: {name} must be a dictionary, got {value!r}")
    return value


def folders(value: Any, name: str) -> Any:
    """A check for a list of folders."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str | os.PathLike) for one in value):
        raise UserError(f"config: {name} must be a list of folders, got {value!r}")
    return value


def decay(value: Any, name: str) -> float:
    """A check for the decay of a moving average."""
    return number(value, name, "config", above=0, below=1)


class Section:
    """What all sections can do: be read from a mapping, and list their keys."""

    name: ClassVar[str] = ""

    @classmethod
    def read(cls, given: Any) -> Any:
        """The section of a mapping; a UserError for a key that is unknown, missing, or of a wrong value."""
        content = cls.known(given)
        known = {one.name: one for one in fields(cls)}  # type: ignore[arg-type]
        found = {name: cls._checked(known[name], value) for name, value in content.items()}
        for name, one in known.items():
            if one.default is MISSING and found.get(name) is None:
                raise UserError(f"the config has no {cls._full(name)}: {one.metadata['doc']}")
        return cls(**found)

    @classmethod
    def known(cls, given: Any) -> Any:
        """The mapping itself; a UserError if it is none, or holds a key that means nothing."""
        content = dictionary(given, cls.name or "the config")
        known = {one.name for one in fields(cls)}  # type: ignore[arg-type]
        for name in sorted(set(map(str, content)) - known):
            raise UserError(f"the config sets {cls._full(name)}, which means nothing; {nearest(name, known)}")
        return content

    def to_dict(self) -> dict[str, Any]:
        """The keys that differ from their defaults, as a mapping that ``read`` takes."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        differing = {one.name for one in fields(self) if found[one.name] is not one.default}  # type: ignore[arg-type]
        return {k: v.to_dict() if isinstance(v, Section) else v for k, v in found.items() if k in differing}

    @classmethod
    def all_keys(cls) -> Iterator[tuple[str, Field[Any]]]:
        """(full name, field) of every key."""
        for one in fields(cls):  # type: ignore[arg-type]
            yield cls._full(one.name), one

    @classmethod
    def _full(cls, name: str) -> str:
        return f"{cls.name}.{name}" if cls.name else name

    @classmethod
    def _checked(cls, one: Field[Any], value: Any) -> Any:
        """The value of a key in its own type; None means what the default means."""
        if value is None and one.default is not MISSING:
            return one.default
        check = one.metadata["check"]
        return check(value, cls._full(one.name)) if check else value


@dataclass(frozen=True)
class Data(Section):
    """Images and labels, and how they become batches."""

    name = "data"
    dataset: Any = key("dict(type=..., root=...): the data set", check=dictionary)
    augment: Any = key(
        "dict(type=..., crop_size=(H, W)): what a training image and its label go through", check=dictionary
    )
    train: Any = key("arguments of the training split, over those of `dataset`", None, check=dictionary)
    val: Any = key("arguments of the validation split", None, check=dictionary)
    test: Any = key("arguments of the test split", None, check=dictionary)
    batch_size: int = key("of all processes together", 8, unit="images", check=integer(1))
    workers: int = key("processes that load images; 0: the training itself", 0, check=integer(0, MANY, " here"))


@dataclass(frozen=True)
class Optim(Section):
    """Optimisers."""

    name = "optim"
    optimizer: Any = key("dict(type=..., lr=...): a class of torch's kind, or its name in torch.optim")
    clip_grad: Any = key("dict(max_norm=...), and norm_type: the gradient's largest norm", None)
    accumulate: int = key("batches whose mean gradient makes one step", 1, unit="batches", check=integer(1))
    paramwise: Any = key(
        "factors of learning rate and weight decay by kind of parameter or by name (custom_keys)", None
    )
    critic: Any = key("dict(type=..., lr=...): the optimiser of a loss's critic; Adam at 4e-4 by default", None)


@dataclass(frozen=True)
class Schedule(Section):
    """How long, and how fast."""

    name = "schedule"
    steps: int | None = key("length of the training; this or `epochs`", None, unit="steps", check=integer(1))
    epochs: int | None = key("the same in passes over the training split", None, unit="epochs", check=integer(1))
    val_interval: int | None = key(
        "between validations; by default an epoch, or the whole of `steps`", None, unit="steps", check=integer(1)
    )
    warmup: int = key("the learning rate rises from a hundredth", 0, unit="steps", check=integer(0))
    policy: Any = key(
        "poly, cosine, step, exponential, constant, or dict(type=...) of torch.optim.lr_scheduler", "poly"
    )
    power: Any = key("of the policy poly; 0.9 by default", None)
    min_lr: Any = key("learning rate at the end of poly and cosine; 0 by default", None)
    milestones: Any = key("steps at which the policy step lowers the rate", None, unit="steps")
    gamma: Any = key("factor of the policies step (0.1 by default) and exponential", None)
    interval: Any = key("between two factors of the policy exponential; 1 by default", None, unit="steps")


@dataclass(frozen=True)
class Engine(Section):
    """How the machine works, what is logged and kept."""

    name = "engine"
    precision: str = key("fp32, bf16 (autocast), or fp16 (autocast and a scaled loss)", "fp32")
    channels_last: bool = key(
        "memory layout of images; faster on CPUs in bf16 and on tensor cores", False, check=boolean
    )
    threads: int | None = key("of torch on the CPU", None, check=integer(1, MANY, " here"))
    log_interval: int = key("between lines of the log", 20, unit="steps", check=integer(1))
    gradient_interval: int = key(
        "between measurements of each term's gradient; 0: never", 200, unit="steps", check=integer(0)
    )
    best: str = key("the score that chooses the best weights; the larger, the better", "mIoU")


SECTIONS: dict[str, type[Section]] = {"data": Data, "optim": Optim, "schedule": Schedule, "engine": Engine}


@dataclass(frozen=True)
class Config(Section):
    """All that makes a run."""

    model: Any = key(
        "dict(type=Segmentor, network=..., ...) or dict(type=Distiller, student=..., teacher=..., binds=...)"
    )
    data: Data = key("see data")
    optim: Optim = key("see optim")
    schedule: Schedule = key("see schedule")
    engine: Engine = key("see engine", Engine())
    metrics: Any = key("list of dict(type=...) with reset, update, compute; the mean IoU by default", None)
    hooks: Any = key("list of dict(type=...): own code at points of the training, by mmengine's protocol", ())
    seed: int = key("of weights, order, augmentation, dropout and draws", 0, check=integer(0, 2**32 - 1))
    imports: Any = key("folders of the user's own modules", (), check=folders)

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
        if (found.schedule.steps is None) == (found.schedule.epochs is None):
            raise UserError("the config has no schedule.steps: give it, or schedule.epochs, and not both")
        return found

    def lasting(self, images: int) -> Config:
        """The same with ``schedule.steps`` and ``val_interval`` set, for a training split of that many images."""
        schedule = self.schedule
        epoch = max(1, -(-images // self.data.batch_size))
        steps = schedule.steps or -(-images * (schedule.epochs or 0) // self.data.batch_size)
        interval = schedule.val_interval or (epoch if schedule.epochs else steps)
        return replace(self, schedule=replace(schedule, steps=steps, val_interval=min(interval, steps)))
