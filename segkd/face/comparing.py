"""``segkd.compare``: several ways to teach a student, with what each gains and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.face.composing import teacher_with_weights
from segkd.face.spelling import spelled

if TYPE_CHECKING:
    from segkd.workbench.arms import Comparison

File = str | Path


@spelled
def compare(
    student: Any,
    teacher: Any = None,
    *,
    recipes: Sequence[File] = ("alone", "kd"),
    seeds: int | Sequence[int] = 3,
    data: Any = None,
    root: File | None = None,
    unlabelled: Any = None,
    init: File | None = None,
    schedule: File | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    hours: float | None = None,
    race: bool = False,
    split: str = "val",
    lr: float | None = None,
    batch: int | None = None,
    size: tuple[int, int] | None = None,
    device: str | None = None,
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    out: File = "work/compare",
    progress: bool = True,
) -> Comparison:
    """Train a student by several recipes, over seeds, and say what each gains over the student alone, with intervals.

    What is done in the folder ``out`` is not done again: a call that was stopped goes on.

    Args:
        student, teacher, data, root, unlabelled, init, schedule, lr, batch, size, device, config, overrides: as in
            ``segkd.distill``.
        recipes: the arms, by name or file of a recipe; "alone" is the student under labels.
        seeds: how many trainings of each arm, or their seeds.
        steps, epochs: length of each training.
        minutes: of each training, in place of equal steps: as many steps as the arm's pace on this machine allows.
        hours: after which no further training begins.
        race: after each seed, only the better half of the arms goes on.
        split: "val" or "test"; the last weights are scored on it.
        out: folder of the runs.
        progress: show how it goes.

    Raises:
        UserError: what a training would refuse; arms in ``out`` that were trained with another config.
    """
    from segkd.report.progress import following
    from segkd.workbench.arms import Budget, compose_arms, compose_for_equal_time, run_arms

    arms = (student, recipes, teacher_with_weights(teacher))
    given = dict(init=init, schedule=schedule, data=data, root=root, size=size, config=config, overrides=overrides)
    given |= dict(words=dict(steps=steps, epochs=epochs, lr=lr, batch=batch, device=device, unlabelled=unlabelled))
    chosen = list(range(seeds) if isinstance(seeds, int) else seeds)
    with following(shown=progress) as follow:
        if minutes is None:
            cfgs = compose_arms(*arms, **given)
        else:
            cfgs = compose_for_equal_time(minutes, Path(out), *arms, progress=follow, **given)
        return run_arms(cfgs, Path(out), chosen, split, Budget(hours, race), _shown if progress else None, follow)


def _shown(cfg: Mapping[str, Any], folder: Path, resume: bool, title: str) -> None:
    """A training that shows how it goes."""
    from segkd.report.live import Live
    from segkd.training.loop import train

    with Live(title) as live:
        train(cfg, folder, resume=resume, hooks=[live], on_first_stage=live.first_stage)
