"""What a teacher knows, what a student could learn from it, and with which settings to begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segkd.datasets import SegmentationDataset
from segkd.deploy.runtimes import torch_threads
from segkd.distiller import Distiller, build_teacher
from segkd.errors import UserError
from segkd.losses import LOSSES
from segkd.models import NETWORKS, Network
from segkd.training import processes
from segkd.training.build import build_dataset, build_model
from segkd.training.config import Config
from segkd.training.precision import training_device
from segkd.training.state import BEST, LAST
from segkd.workbench import Progress, Row, advice_rules, silent
from segkd.workbench.advice_rules import OVER_CLASSES, Finding, Recipe
from segkd.workbench.answers import SCALE, Answers, View, arguments, ask, rows, views
from segkd.workbench.pulls import measure_pulls
from segkd.workbench.runs import load_student

SPLITS = ("train", "val")

BASELINE = (
    "train it alone (the same command, without --teacher and --recipe), then give --student-weights with its run folder"
)


@dataclass(frozen=True, repr=False)
class Advice:
    """What was measured of a teacher and its student, and what follows; printed, what follows. Scores are in percent.

    Attributes:
        teacher, student: names of the networks' classes.
        images: how many were looked at, by split.
        views: a row for each way to show an image: "view", "group", "value", and "SPLIT_accuracy" and "SPLIT_miou".
        classes: a row each: "class", "train_iou", "val_iou", and with a student "student_iou" and "room" (val).
        borders: a row for each distance to the nearest border of labels (pixels): "from", "to", "SPLIT_share",
            "SPLIT_accuracy".
        confidence: by split, see `segkd.workbench.answers.Confidence`.
        student_scores: "miou", "accuracy", and the percent of pixels where "only_teacher" or "only_student" is right;
            None without weights of a student.
        pulls: a row for each term, see `segkd.workbench.pulls.Pull`.
        helps: "yes", "hardly" or "unknown".
        verdict, findings: what follows, each with its reason.
        recipe: the loss to begin with.
        settings: key -> value of the config to begin with.
        recipe_settings: those by which the recipe takes the place of the config's terms; empty if it is one of them.
    """

    teacher: str
    student: str
    images: dict[str, int]
    views: list[Row]
    classes: list[Row]
    borders: list[Row]
    confidence: dict[str, Row]
    student_scores: Row | None
    pulls: list[Row]
    helps: str
    verdict: list[Finding]
    findings: list[Finding]
    recipe: Recipe
    settings: dict[str, Any]
    recipe_settings: dict[str, Any]

    def __repr__(self) -> str:
        found = [*self.verdict, *self.findings, Finding(f"recipe: {self.recipe.name}", self.recipe.because)]
        lines = [f"- {one.says}\n  because: {one.because}" for one in found]
        return "\n".join([*lines, *(f"{key} = {value!r}" for key, value in self.settings.items())])


def advise(
    cfg: Mapping[str, Any],
    images: int = 40,
    student_weights: str | Path | None = None,
    *,
    of: str | None = None,
    batches: int = 3,
    progress: Progress = silent,
) -> Advice:
    """Advice on a distillation, by showing images of its training and validation splits to its teacher.

    Args:
        cfg: of a distillation, from ``segkd.training.configfile.load_config``.
        images: of each split, at equal distances over it.
        student_weights: of the student trained alone: a weights file, or its run folder.
        of: name of the teacher, where there are several.
        batches: of the training, on which the terms' gradients are measured; 0 leaves them out.
        progress: told how far it is.

    Raises:
        UserError: a config without a teacher; weights or data that are missing, or do not fit.
    """
    if processes.is_distributed():
        raise UserError("one process gives advice; start it without torchrun")
    if images < 1 or batches < 0:
        raise UserError(f"advice needs at least 1 image and 0 batches, got images={images}, batches={batches}")
    config = Config.of(cfg)
    key, teacher_cfg = _teacher(config.model, of)
    student = None if student_weights is None else load_student(config.to_dict(), _student_file(student_weights))
    teacher = build_teacher(teacher_cfg, key=key)
    device = training_device(config.engine.device)
    data = {split: build_dataset(config, split) for split in SPLITS}
    with torch_threads(config.engine.threads or torch.get_num_threads()):
        shown = views(config.data.augment, data["train"])
        asked = _ask(config, teacher, student, data, shown, images, device, progress)
        recipe = advice_rules.recipe(asked["train"], asked["val"])
        t, about_t = advice_rules.temperature(asked["train"], asked["val"])
        extra = _recipe_bind(config, recipe.name, t, of)
        pulls = []
        if batches:
            model = _model(config, extra)
            pulls = measure_pulls(config, model, data["train"], device, batches, list(extra), progress)
    names = data["val"].class_names
    return _conclude(config, teacher, asked, shown, names, recipe, t, about_t, extra, pulls)


def _teacher(model: Mapping[str, Any], of: str | None) -> tuple[str, Any]:
    """The key and the config of the teacher to judge."""
    several = model.get("teachers")
    if several:
        if of not in several:
            told = "say which one" if of is None else f"there is no {of!r}"
            raise UserError(f"the config has several teachers, {told}: of= {', '.join(map(repr, several))}")
        return f"model.teachers.{of}", several[of]
    if model.get("teacher") is None:
        raise UserError("the config has no teacher: it trains a network alone, and there is nothing to advise on")
    if of is not None:
        raise UserError(f"the config has one teacher, without a name: leave out of={of!r}")
    return "model.teacher", model["teacher"]


def _student_file(given: str | Path) -> Path:
    """The weights of a run folder, the best on validation before the last; a file as it is."""
    path = Path(given)
    if not path.is_dir():
        return path
    found = [path / name for name in (BEST, LAST) if (path / name).is_file()]
    if not found:
        raise UserError(f"{path} holds no weights of a student ({BEST} or {LAST}): give a finished run, or a file")
    return found[0]


def _ask(
    config: Config,
    teacher: Network,
    student: Network | None,
    data: Mapping[str, SegmentationDataset],
    shown: Sequence[View],
    images: int,
    device: torch.device,
    progress: Progress,
) -> dict[str, Answers]:
    """The answers on both splits; the student is asked on validation images alone."""
    teacher.to(device)
    asked = {}
    for split in SPLITS:
        other = student.to(device).predict if student is not None and split == "val" else None
        asked[split] = ask(
            teacher.predict, data[split], shown, images, device, other, config.seed,
            partial(progress, f"showing {split} images to the teacher"),
        )  # fmt: skip
    return asked


def _recipe_bind(config: Config, name: str, t: float | None, of: str | None) -> dict[str, Any]:
    """The bind of a recipe on the logits, by its name; none where the config has a bind with that loss."""
    kind = LOSSES.get(name)
    for bind in config.model.get("binds", {}).values():
        loss = bind.loss if not isinstance(bind, Mapping) else bind["loss"]
        if isinstance(loss, kind) or (isinstance(loss, Mapping) and LOSSES.resolve(loss["type"]) is kind):
            return {}
    loss = dict(type=name, temperature=t) if t is not None and name in OVER_CLASSES else dict(type=name)
    bind = dict(student="", teacher="", loss=loss, masked=True) | ({} if of is None else {"of": of})
    return {name if name not in config.model.get("binds", {}) else f"{name}_logits": bind}


def _model(config: Config, extra: Mapping[str, Any]) -> Distiller:
    """The config's training model at its start, with one more bind."""
    binds = {**config.model.get("binds", {}), **extra}
    with torch.random.fork_rng():
        model = build_model({**config.to_dict(), "model": {**config.model, "binds": binds}})
    if not isinstance(model, Distiller):
        raise UserError(f"advice is on a Distiller, and the config's model is a {type(model).__name__}")
    return model


def _conclude(
    config: Config,
    teacher: Network,
    asked: Mapping[str, Answers],
    shown: Sequence[View],
    names: Sequence[str],
    recipe: Recipe,
    t: float | None,
    about_t: list[Finding],
    extra: Mapping[str, Any],
    pulls: Sequence[Any],
) -> Advice:
    """The rules applied to what was measured."""
    train, val = asked["train"], asked["val"]
    table = rows(asked, shown)
    own = next(view.name for view in shown if view.group == SCALE and view.value == 1)
    classes = _classes(train, val, own, names)
    known = arguments(config.data.augment)
    augment, about_augment = advice_rules.augmentation(table, known, config.data.augment.get("crop_size"), train.size)
    weights, about_weights = advice_rules.weights(pulls)
    helps, verdict = advice_rules.verdict(train, val, own, classes, BASELINE)
    about = advice_rules.where_right(train, val, own, classes)
    settings: dict[str, Any] = dict(augment)
    for term, weight in weights.items():
        if term not in extra:  # the recipe's own weight goes with it
            settings[f"model.binds.{term}.weight"] = weight
    for term, bind in config.model.get("binds", {}).items():
        if t is not None and isinstance(bind, Mapping) and _over_classes(bind["loss"]):
            settings[f"model.binds.{term}.loss.temperature"] = t
    instead: dict[str, Any] = {}
    for term, bind in extra.items():
        instead = {f"model.binds.{other}.weight": 0.0 for other in config.model.get("binds", {})}
        instead[f"model.binds.{term}"] = {**bind, "weight": weights.get(term, 1.0)}
    student = config.model["student"]
    return Advice(
        teacher=type(teacher).__name__,
        student=(NETWORKS.resolve(student["type"]) if isinstance(student, Mapping) else type(student)).__name__,
        images={split: answers.images for split, answers in asked.items()},
        views=table,
        classes=classes,
        borders=_borders(asked),
        confidence={split: answers.confidence._asdict() for split, answers in asked.items()},
        student_scores=_student_scores(val),
        pulls=[pull._asdict() for pull in pulls],
        helps=helps,
        verdict=verdict,
        findings=[*about, *about_augment, *about_t, *about_weights],
        recipe=recipe,
        settings=settings,
        recipe_settings=instead,
    )


def _over_classes(loss: Any) -> bool:
    """True for the config of a loss of a softmax over the classes."""
    return isinstance(loss, Mapping) and LOSSES.resolve(loss["type"]) in {LOSSES.get(name) for name in OVER_CLASSES}


def _classes(train: Answers, val: Answers, own: str, names: Sequence[str]) -> list[Row]:
    found = []
    for k, name in enumerate(names):
        row: Row = {"class": name, "train_iou": train.views[own].iou[k], "val_iou": val.views[own].iou[k]}
        if val.student is not None:
            row |= {"student_iou": val.student.iou[k], "room": row["val_iou"] - val.student.iou[k]}
        found.append(row)
    return found


def _borders(asked: Mapping[str, Answers]) -> list[Row]:
    found = []
    for k, band in enumerate(asked["train"].borders):
        row: Row = {"from": band["from"], "to": band["to"]}
        for split, answers in asked.items():
            row |= {f"{split}_{key}": answers.borders[k][key] for key in ("share", "accuracy")}
        found.append(row)
    return found


def _student_scores(val: Answers) -> Row | None:
    if val.student is None:
        return None
    shares = {"only_teacher": val.only_teacher, "only_student": val.only_student}
    return {"miou": val.student.miou, "accuracy": val.student.pixel_accuracy, **shares}
