"""A run's config, composed of parts by name: a student, a teacher, a recipe, a data set, a schedule.

A part is a config file with some of a config's keys. ``configs/networks/NAME.py`` has what was published for a network,
``configs/data/NAME.py`` a data set, ``configs/recipes/NAME.py`` the binds of a distillation by role, and
``configs/schedules/NAME.py`` an optimiser and a length. Any part may say in ``on = dict(NAME=dict(...))`` what differs
on a data set. A data set's part may say in ``like`` whose name it answers to; the images without labels in it are left
out where there is no teacher.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from segkd.datasets.base import RGB
from segkd.distiller import Distiller
from segkd.errors import UserError, nearest
from segkd.models import catalogue as known
from segkd.models.published import CHECKPOINTS
from segkd.segmentor import Segmentor, TrainingModel
from segkd.teachers import load_teacher
from segkd.training.configfile import CONFIG, can_import, config_root, load_config, parts, read_variables
from segkd.training.overrides import KEYS
from segkd.training.state import BEST, LAST
from segkd.workbench import making
from segkd.workbench.settling import settle
from segkd.workbench.zoo import WEIGHTS, resolve_release

NETWORK, DATA, RECIPE, SCHEDULE = "networks", "data", "recipes", "schedules"
WORDS = {NETWORK: "network", DATA: "data set", RECIPE: "recipe", SCHEDULE: "schedule"}
#: a part's own keys, beside those of a config
OWN = {NETWORK: ("network", "supervision"), RECIPE: ("binds",), DATA: ("frequencies", "like"), SCHEDULE: ()}
EPOCHS = 400  # of a network whose schedule says nothing of a data set, as the field trains on CamVid
BASE = dict(
    optim=dict(optimizer=dict(making.OPTIMIZER)),
    schedule=dict(epochs=EPOCHS, val_interval=0.05),
    engine=dict(precision="auto", channels_last=True),
    seed=0,
)


class Source(NamedTuple):
    """A data set's section, its name, and the share of each class in the pixels of its training labels, if known."""

    section: dict[str, Any]
    name: str | None
    frequencies: Sequence[float] | None = None


def read_part(kind: str, name: str | Path) -> dict[str, Any]:
    """A part by its file or by its shipped name: its keys, and nothing else of the file."""
    path = Path(name)
    if path.suffix != ".py" or not path.is_file():
        path = config_root() / kind / f"{name}.py"
    if not path.is_file():
        raise UserError(
            f"no {WORDS[kind]} {str(name)!r}: neither a file nor a shipped name; {nearest(str(name), parts(kind))}"
        )
    can_import([str(path.resolve().parent), os.getcwd()])
    found = read_variables(path)
    return {key: found[key] for key in (*KEYS, *OWN[kind], "on") if key in found}


def compose(
    student: Any,
    *,
    init: str | Path | None = None,
    teacher: Any = None,
    recipe: Any = None,
    binds: Any = None,
    data: Any = None,
    root: str | Path | None = None,
    schedule: str | Path | None = None,
    size: Sequence[int] | None = None,
    supervision: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    words: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A complete config: the student under labels, and under a teacher where a recipe, binds or a teacher are given.

    What comes later wins: the data set's part, the student's, the recipe's, the schedule's (each with what it says of
    this data set), ``config``, ``words``, ``overrides``. Then all that depends on the data is filled in (see
    ``segkd.workbench.settling``).

    Args:
        student: name of a network or file of its part; ``module:Class``, class, dict(type=...) or module.
        init: weights file that the student begins with, as far as it fits.
        teacher: see ``segkd.workbench.making.teacher_config``, or what ``segkd.teachers.load_teacher`` takes.
        recipe: name or file of a recipe; "kd" for a teacher without recipe and binds.
        binds: terms in place of a recipe's.
        data, root, size: see ``making.data_section``; a shipped part of that name is taken first.
        schedule: name or file of a schedule, in place of the student's optimiser and length.
        supervision: in place of the network's own.
        config, overrides, words: see ``making.complete``.

    Raises:
        UserError: a name that does not exist, with the nearest; parts that do not fit.
    """
    source = data_source(data, root, size, overrides)
    taught = teacher is not None or recipe is not None or binds is not None
    if not taught:  # what a part has for a teacher's terms alone
        source = source._replace(section={k: v for k, v in source.section.items() if not k.startswith("unlabelled")})
    own, module = student_part(student)
    layers: list[Mapping[str, Any]] = [BASE, {"data": source.section}, own]
    if taught and binds is None:
        layers.append(read_part(RECIPE, recipe or "kd"))
    cfg: dict[str, Any] = {}
    for layer in layers:
        cfg = _laid_over(cfg, layer, source.name)
    if schedule is not None:
        part = read_part(SCHEDULE, schedule)
        cfg = _laid_over(
            {key: value for key, value in cfg.items() if key not in part or key == "data"}, part, source.name
        )
    if size is not None:
        cfg["data"]["augment"] = {**cfg["data"]["augment"], "crop_size": tuple(map(int, size))}
    if isinstance(module, TrainingModel):
        if teacher is not None or recipe is not None:
            raise UserError(
                f"a {type(module).__name__} is complete: give its network in its place, or no teacher and no recipe"
            )
        model = making.fresh(module)
    else:
        model = _model(cfg, module, source, teacher, taught)
    if init is not None:
        key = "network" if "network" in model else "student"
        model[key] = making.begun(model[key], init)
    if supervision is not None:
        model["supervision"] = supervision
    if binds is not None:
        model["binds"] = making.bind_configs(binds)
    cfg = {"model": model, **{key: cfg[key] for key in KEYS if key in cfg}}
    return making.complete(cfg, config, overrides, words or {}, lambda found: settle(found, source.frequencies))


def _model(
    cfg: Mapping[str, Any], module: nn.Module | None, source: Source, teacher: Any, taught: bool
) -> dict[str, Any]:
    """``model`` of a config: a Segmentor, or a Distiller."""
    count = making.num_classes(source.section)
    trained = making.network_config(cfg["network"] if module is None else module, count)
    if isinstance(trained, Mapping) and making.num_channels(source.section) > RGB:
        trained = {"bands": "@bands", **trained}
    model: dict[str, Any] = dict(type=Distiller, student=trained) if taught else dict(type=Segmentor, network=trained)
    if "supervision" in cfg:
        model["supervision"] = cfg["supervision"]
    if taught:
        model |= dict(teacher=teacher_config(teacher, count), binds=cfg.get("binds", {}))
    return model


def _laid_over(cfg: Mapping[str, Any], layer: Mapping[str, Any], data: str | None) -> dict[str, Any]:
    """A config with a part over it, and over that what the part says of the data set of that name."""
    exception = layer.get("on", {}).get(data, {})
    found = cfg
    for one in (layer, exception):
        if one.get("schedule", {}).keys() & {"steps", "epochs"}:  # a length is given in one of two units
            kept = {key: value for key, value in found.get("schedule", {}).items() if key not in ("steps", "epochs")}
            found = {**found, "schedule": kept}
        found = making.merged(found, one)
    return dict(found)


def data_source(
    given: Any, root: str | Path | None = None, size: Sequence[int] | None = None, overrides: Sequence[str] = ()
) -> Source:
    """The data section of a shipped part, or of what ``making.data_section`` takes, with the set's name."""
    name = making.label(given) if given is not None else None
    if isinstance(given, str | Path) and (str(given) in parts(DATA) or Path(given).suffix == ".py"):
        part = read_part(DATA, given)
        section, name = part["data"], part.get("like", Path(given).stem)
        if root is not None:
            section["dataset"] = {**section["dataset"], "root": str(root)}
        return Source(section, name, part.get("frequencies"))
    return Source(making.data_section(given, root, size, overrides), name)


def student_part(given: Any) -> tuple[dict[str, Any], nn.Module | None]:
    """What is published for a network, with the network itself under "network"; or a module that is one.

    A name of the catalogue without a part of its own has that of its family, whose name its own begins with
    (``light_fpn`` for ``light_fpn_resnet18``).
    """
    if isinstance(given, nn.Module):
        return {}, given
    if isinstance(given, Mapping) or inspect.isclass(given):
        return {"network": given if isinstance(given, Mapping) else dict(type=given)}, None
    if not isinstance(given, str | Path):
        raise UserError(f"a network is given by its name, a class, dict(type=...) or a torch module, got {given!r}")
    text = str(given)
    if text.endswith(".py"):
        part = read_part(NETWORK, text)
        if "type" not in part.get("network", {}):  # a shipped part, or one like it, has its network's name
            part["network"] = {**part.get("network", {}), **making.named_network(Path(text).stem)}
        return part, None
    if ":" in text:
        return {"network": dict(type=text.replace(":", "."))}, None
    named, name = making.named_network(text), part_of(text)
    part = {} if name is None else read_part(NETWORK, name)
    return {**part, "network": {**part.get("network", {}), **named}}, None


def part_of(network: str) -> str | None:
    """The name of a network's shipped part: its own name, or the longest beginning of it that is one."""
    words, known_parts = network.split("_"), parts(NETWORK)
    names = ("_".join(words[:count]) for count in range(len(words), 0, -1))
    return next((name for name in names if name in known_parts), None)


def teacher_config(given: Any, count: int) -> Any:
    """The config of a teacher for ``count`` classes.

    Args:
        given: a run folder of segkd or a weights file in it; ``NAME@FILE``, a published checkpoint
            (``espnet_q8_camvid@FILE``) or a network with a weights file of its own; whatever
            ``segkd.teachers.load_teacher`` takes; or what ``making.teacher_config`` does.
    """
    if not isinstance(given, str | Path):
        return making.teacher_config(given, count)
    text = resolve_release(given, WEIGHTS)
    folder, weights = _run(Path(text))
    if folder is not None:
        found = making.trained(load_config(folder), weights)
        if found is None:
            raise UserError(f"{folder} does not tell how its network was made: give it from Python")
        return found
    name, _, file = text.partition("@")
    if file and name in CHECKPOINTS:
        row = CHECKPOINTS[name]
        return dict(type=row.network, **row.options, published=row.published, weights=file)
    if name in known.catalogue():
        return {**making.network_config(name, count), **({"weights": file} if file else {})}
    if ":" in name or Path(text).exists() or "/" in text:
        return dict(type=load_teacher, source=text, num_classes=count)
    raise UserError(
        f"unknown teacher {text!r}: it is no file, no folder, no KIND:NAME@FILE and no NAME@FILE of a network; "
        f"{nearest(name, [*known.catalogue(), *CHECKPOINTS])}"
    )


def _run(path: Path) -> tuple[Path | None, Path]:
    """A run folder and the weights meant by it or by a file in it; None for any other path."""
    if path.is_dir() and (path / CONFIG).is_file():
        return path, path / (BEST if (path / BEST).is_file() else LAST)
    return (path.parent, path) if path.is_file() and (path.parent / CONFIG).is_file() else (None, path)
