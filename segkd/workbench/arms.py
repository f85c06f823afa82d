"""Several ways to train one student, side by side: the same seeds, starts and images; gains with their intervals."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segkd.datasets import SegmentationDataset
from segkd.errors import UserError
from segkd.evaluation.intervals import Counts, ImageCounts, difference, interval, miou, verdict
from segkd.files import replacing
from segkd.training.build import build_dataset
from segkd.training.configfile import differences, dump_config, load_config, objects_unwritten, plain, textual
from segkd.training.log import FIRST_STAGES, LOG
from segkd.training.loop import train as run_training
from segkd.training.state import LAST, STATE
from segkd.workbench import Progress, Row, silent
from segkd.workbench.comparison import score_model
from segkd.workbench.composing import compose
from segkd.workbench.runs import open_model, open_teacher
from segkd.workbench.step import time_step

ALONE = "alone"
METRICS, PACE, RESULT = "metrics.json", "pace.json", "comparison.json"
TIMED_STEPS = 6
LEAST_STEPS = 2
ROUNDS = 5  # in which the steps of a main training and of its first stages settle

#: trains a config in a folder, going on from its state if it has one; the last is a title for what is shown
Train = Callable[[Mapping[str, Any], Path, bool, str], object]


class Budget(NamedTuple):
    """How much to train.

    hours: after which no further training begins; None: all of them.
    race: after each seed, the better half of the arms goes on (successive halving); the baseline always does.
    """

    hours: float | None = None
    race: bool = False


class Comparison(NamedTuple):
    """What a comparison found.

    rows: of each arm, the best first: ``name``, ``steps``, ``seconds_per_step`` (None unless timed), ``seeds`` done,
        ``scores`` (mIoU by seed, percent), ``miou``, ``deviation`` (of the seeds; None for one), ``low`` and ``high``;
        and of what it is better than the baseline: ``gain``, ``gain_low``, ``gain_high``, ``gain_seeds``, ``verdict``.
    teacher: mIoU of the teacher, percent; None without one.
    baseline: the arm that the others are held against.
    curves: by arm, {step: mean over the seeds of the mIoU on the validation split}.
    split, images: what was scored, with each training's last weights.
    unfinished: trainings that the budget left out, as "arm, seed 2".
    """

    rows: list[Row]
    teacher: float | None
    baseline: str
    curves: dict[str, dict[int, float]]
    split: str
    images: int
    unfinished: list[str]


def compose_arms(
    student: Any,
    recipes: Sequence[str | Path],
    teacher: Any = None,
    *,
    steps: Mapping[str, int] | None = None,
    words: Mapping[str, Any] | None = None,
    **given: Any,
) -> dict[str, Any]:
    """A config for each recipe, by its name; "alone" is the student under labels.

    Args:
        student, teacher, words, given: see ``segkd.workbench.composing.compose``.
        steps: length of each arm by its name, in place of one for all.
    """
    names = [Path(recipe).stem if Path(recipe).suffix == ".py" else str(recipe) for recipe in recipes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"the recipe {twice!r} is named twice; an arm of another kind needs a file of another name")
    if len(names) < 2:
        raise UserError(f"a comparison needs at least two arms, got {names}: name recipes, and {ALONE!r}")
    found = {}
    for name, recipe in zip(names, recipes, strict=True):
        if name != ALONE and teacher is None:
            raise UserError(f"the recipe {name!r} needs a teacher")
        own = dict(words or {}) if steps is None else {**(words or {}), "steps": steps[name], "epochs": None}
        if name == ALONE:  # only a teacher's terms see images without labels, and only a teacher has a view
            own["unlabelled"] = None
            of_teacher = ("data.unlabelled", "data.teacher_view")
            rest = [text for text in given.get("overrides", ()) if not text.startswith(of_teacher)]
            found[name] = compose(student, words=own, **{**given, "overrides": rest})
            continue
        found[name] = compose(student, teacher=teacher, recipe=recipe, words=own, **given)
    return found


def compose_for_equal_time(
    minutes: float, out: Path, *arms: Any, words: Mapping[str, Any], progress: Progress = silent, **given: Any
) -> dict[str, Any]:
    """``compose_arms`` with as many steps for each as fit into the minutes, on this machine.

    The steps of first stages are among them; they are taken to be as long as those of the main training.

    Args:
        minutes: of each training.
        out: the comparison's folder, which keeps the pace of each arm: what goes on there has the steps it had.
        arms, words, given: see ``compose_arms``; a length has no place among them.
    """
    if not 0 < minutes < math.inf:
        raise UserError(f"minutes must be above 0, got {minutes:g}")
    for word in ("steps", "epochs"):
        if words.get(word) is not None:
            raise UserError(f"minutes and {word}: give one of them, they are the same length in two units")
    pace = _pace(compose_arms(*arms, words=words, **given), out, progress)
    fit = {name: int(60 * minutes / seconds + 1e-6) for name, seconds in pace.items()}
    steps, first = fit, dict.fromkeys(fit, 0)
    for _ in range(ROUNDS):  # the length of a first stage may be a share of the main training's
        steps = {name: max(1, fit[name] * count // max(1, count + first[name])) for name, count in steps.items()}
        cfgs = compose_arms(*arms, steps=steps, words=words, **given)
        first = {name: _first_steps(cfg) for name, cfg in cfgs.items()}
        if not any(first.values()):
            break
    steps = {name: fit[name] - first[name] for name in fit}
    if short := next((name for name, count in steps.items() if count < LEAST_STEPS), None):
        raise UserError(
            f"a step of {short} takes {pace[short]:.3g} s: {minutes:g} minutes are less than {LEAST_STEPS} of them"
        )
    return compose_arms(*arms, steps=steps, words=words, **given)


def run_arms(
    cfgs: Mapping[str, Mapping[str, Any]],
    out: Path,
    seeds: Sequence[int] = (0, 1, 2),
    split: str = "val",
    budget: Budget | None = None,
    train: Train | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Train each arm with each seed, where that is not done yet; score the last weights; compare.

    Arms of one seed begin with the same weights and see the same batches. Nothing is chosen on the split that is
    scored: neither a checkpoint nor, without ``race``, an arm.

    Args:
        cfgs: complete configs by the name of their arm.
        out: folder: ``ARM.py`` is an arm's config, ``ARM/seedS`` its runs. What is done there is not done again.
        seeds: of the trainings.
        split: on which the students are scored.
        budget: see ``Budget``.
        train: how a run is trained, to show it; by default in silence.
        progress: told of timing and scoring.

    Raises:
        UserError: an arm in the folder that has another config, a wrong budget, and what a training refuses.
    """
    budget = budget or Budget()
    if budget.hours is not None and not 0 < budget.hours < math.inf:
        raise UserError(f"hours must be above 0, got {budget.hours:g}")
    if not seeds or len(set(seeds)) != len(seeds):
        raise UserError(f"seeds must be different integers, got {list(seeds)}")
    for name, cfg in cfgs.items():
        _keep(cfg, out / f"{name}.py")
    baseline, began = ALONE if ALONE in cfgs else next(iter(cfgs)), time.monotonic()
    dataset = build_dataset(next(iter(cfgs.values())), split)
    counts: dict[str, dict[int, Counts]] = {name: {} for name in cfgs}
    unfinished: list[str] = []
    running = list(cfgs)
    for number, seed in enumerate(seeds):
        for name in running:
            run = out / name / f"seed{seed}"
            late = budget.hours is not None and time.monotonic() - began > 3600 * budget.hours
            if late and not (run / METRICS).is_file():
                unfinished.append(f"{name}, seed {seed}")
                continue
            cfg = {**cfgs[name], "seed": seed}
            _train(cfg, run, train, f"{name}, seed {seed}")
            counts[name][seed] = _counts(cfg, run, dataset, split, progress)
        if budget.race and number + 1 < len(seeds):
            running = _better_half(counts, running, baseline)
    taught = next((cfg for cfg in cfgs.values() if "teacher" in cfg["model"]), None)
    return Comparison(
        rows=_rows(out, counts, baseline),
        teacher=None if taught is None else miou(_teacher_counts(taught, out, dataset, split, progress)),
        baseline=baseline,
        curves={name: _curve(out / name, done) for name, done in counts.items() if done},
        split=split,
        images=len(dataset),
        unfinished=unfinished,
    )


def _first_steps(cfg: Mapping[str, Any]) -> int:
    """Steps of all first stages of a config, which come before the main training."""
    stages = [bind.get("first_stage") for bind in cfg["model"].get("binds", {}).values()]
    return sum(int(stage["steps"]) for stage in stages if stage)


def _pace(cfgs: Mapping[str, Mapping[str, Any]], out: Path, progress: Progress) -> dict[str, float]:
    """Seconds of a step of each arm, on this machine, as they were measured first: a run that goes on keeps them."""
    known = _known_pace(out)
    for number, (name, cfg) in enumerate(cfgs.items()):
        if name not in known:
            progress("timing a step of each arm", number, len(cfgs))
            times = time_step(cfg, TIMED_STEPS)
            known[name] = times.bare_ms * times.ratio_with_data / 1000
            with replacing(out / PACE) as temporary:
                temporary.write_text(json.dumps(known, indent=1))
    return {name: known[name] for name in cfgs}


def _known_pace(out: Path) -> dict[str, float]:
    path = out / PACE
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _keep(cfg: Mapping[str, Any], path: Path) -> None:
    """Write the config beside its runs. Another one there is refused: their scores would be of two kinds."""
    if unwritten := next(objects_unwritten(textual(cfg)), None):
        raise UserError(
            f"the arm {path.stem!r} has {unwritten}, which no file can hold: give it by name, class or file"
        )
    if path.is_file():
        changed = [one for one in differences(load_config(path), plain(cfg)) if one[0] not in ("seed", "imports")]
        if changed:
            key, old, new = min(changed, key=lambda one: one[0] == "schedule.val_interval")  # which follows the length
            raise UserError(
                f"{path} was trained with another {key}: {old!r}, now it is {new!r}; take another folder (--out), "
                f"or delete {path} and {path.with_suffix('')}"
            )
    dump_config(cfg, path)


def _train(cfg: Mapping[str, Any], run: Path, train: Train | None, title: str) -> None:
    if (run / METRICS).is_file():
        return
    resume = (run / STATE).is_file() or any(run.glob(FIRST_STAGES))
    if train is None:
        run_training(cfg, run, resume=resume)
    else:
        train(cfg, run, resume, title)


def _counts(cfg: Mapping[str, Any], run: Path, dataset: SegmentationDataset, split: str, progress: Progress) -> Counts:
    """The pixels of each image that a run's last weights get right: counted once, then kept beside them."""

    def count() -> Counts:
        return _scored(open_model(cfg, run / LAST, _threads(cfg)), dataset, f"scoring {run}", progress)

    return _once(run / f"counts_{split}.npz", count, len(dataset))


def _teacher_counts(
    cfg: Mapping[str, Any], out: Path, dataset: SegmentationDataset, split: str, progress: Progress
) -> Counts:
    def count() -> Counts:
        return _scored(open_teacher(cfg, _threads(cfg)), dataset, "scoring the teacher", progress)

    return _once(out / f"teacher_{split}.npz", count, len(dataset))


def _threads(cfg: Mapping[str, Any]) -> int:
    return int((cfg.get("engine") or {}).get("threads") or 2)


def _scored(model: Any, dataset: SegmentationDataset, doing: str, progress: Progress) -> Counts:
    matrix = ImageCounts(dataset.num_classes)
    score_model(model, dataset, workers=1, matrix=matrix, progress=lambda done, total: progress(doing, done, total))
    return matrix.of_images()


def _once(path: Path, count: Callable[[], Counts], images: int) -> Counts:
    if path.is_file():
        with np.load(path) as kept:
            found: Counts = kept["counts"]
        if len(found) == images:
            return found
    found = count()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, counts=found)
    return found


def _better_half(counts: Mapping[str, Mapping[int, Counts]], running: Sequence[str], baseline: str) -> list[str]:
    """The baseline, and of the other arms the half (at least one) with the best mean score so far."""
    others = [name for name in running if name != baseline and counts[name]]
    mean = {name: np.mean([miou(one) for one in counts[name].values()]) for name in others}
    ahead = sorted(others, key=lambda name: -mean[name])[: max(1, math.ceil(len(others) / 2))]
    return [name for name in running if name == baseline or name in ahead]


def _rows(out: Path, counts: Mapping[str, Mapping[int, Counts]], baseline: str) -> list[Row]:
    """The arms that have a score, the best first (see ``Comparison``)."""
    rows, pace = [], _known_pace(out)
    for name, done in counts.items():
        if not done:
            continue
        scores = {seed: miou(one) for seed, one in done.items()}
        mean = interval(list(done.values()))
        steps = json.loads((out / name / f"seed{next(iter(done))}" / METRICS).read_text())["steps"]
        row: Row = {"name": name, "steps": steps, "seconds_per_step": pace.get(name), "seeds": len(done)}
        row |= {"scores": scores, "miou": mean.value, "low": mean.low, "high": mean.high}
        row["deviation"] = float(np.std(list(scores.values()), ddof=1)) if len(scores) > 1 else None
        rows.append(row | _gain(done, counts[baseline], name == baseline))
    return sorted(rows, key=lambda row: -row["miou"])


def _gain(done: Mapping[int, Counts], base: Mapping[int, Counts], is_baseline: bool) -> Row:
    """What an arm is better than the baseline, over the seeds that both have."""
    both = [seed for seed in done if seed in base]
    if is_baseline or not both:
        return dict(gain=None, gain_low=None, gain_high=None, gain_seeds=len(both), verdict="")
    found = difference([done[seed] for seed in both], [base[seed] for seed in both])
    return {
        "gain": found.value,
        "gain_low": found.low,
        "gain_high": found.high,
        "gain_seeds": len(both),
        "verdict": verdict(found),
    }


def _curve(arm: Path, seeds: Mapping[int, Any]) -> dict[int, float]:
    """{step: mean of the runs' mIoU on the validation split}, at the steps that all of them have."""
    curves = [dict(_validations(arm / f"seed{seed}" / LOG)) for seed in seeds]
    steps = sorted(set.intersection(*map(set, curves)))
    return {step: float(np.mean([curve[step] for curve in curves])) for step in steps}


def _validations(log: Path) -> Iterator[tuple[int, float]]:
    for line in log.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "mIoU" in record.get("val", {}):
            yield int(record["step"]), float(record["val"]["mIoU"])
