"""``segkd.check`` and ``segkd.advise``: what to know before a training begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.errors import UserError
from segkd.face.composing import alone_config, distillation_config
from segkd.face.run import Run
from segkd.face.spelling import spelled

if TYPE_CHECKING:
    from segkd.workbench.advice import Advice
    from segkd.workbench.preflight import Preflight

File = str | Path


@spelled
def check(
    student: Any,
    teacher: Any = None,
    *,
    recipe: File | None = None,
    binds: Any = None,
    data: Any = None,
    root: File | None = None,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    device: str | None = None,
    images: int = 8,
    overrides: Sequence[str] = (),
    out: File | None = None,
    progress: bool = True,
) -> Preflight:
    """Look at a training without beginning it: the teacher's score, each term's value and gradient, time, memory, disk.

    Args:
        student, teacher, recipe, binds, data, root, size, batch, device, overrides: as in ``segkd.distill``; without a
            teacher, as in ``segkd.train``.
        images: validation images to score the teacher on.
        out: folder that the run is meant for; its disk is looked at.
        progress: show how it goes.

    Raises:
        UserError: what a training would refuse. What speaks against the run otherwise is in the ``errors`` of what
            comes back.
    """
    from segkd.report.progress import following
    from segkd.workbench.preflight import preflight

    given = dict(data=data, root=root, size=size, overrides=overrides, words=dict(batch=batch, device=device))
    if teacher is None and recipe is None and binds is None:
        cfg = alone_config(student, **given)
    else:
        cfg = distillation_config(student, teacher, recipe=recipe, binds=binds, **given)
    with following(shown=progress) as follow:
        return preflight(cfg, images, None if out is None else Path(out), progress=follow)


@spelled
def advise(
    student: Any,
    teacher: Any = None,
    *,
    recipe: File | None = None,
    binds: Any = None,
    data: Any = None,
    root: File | None = None,
    student_weights: Any = None,
    images: int = 40,
    batches: int = 3,
    of: str | None = None,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> Advice:
    """Advice on a distillation: where the teacher is right, the student's room, and settings, each with its reason.

    Args:
        student, teacher, recipe, binds, data, root, size, batch, device: as in ``segkd.distill``; the student may be
            the config of a distillation.
        student_weights: of the student trained alone: a Run, its folder, or a weights file.
        images: of the training and of the validation split, each.
        batches: of the training, on which the terms' gradients are measured; 0 leaves them out.
        of: name of the teacher, where there are several.
        threads: CPU threads.

    Returns:
        Plain numbers and ``settings`` (config key -> value); printed, what follows from them, and why.
    """
    from segkd.report.progress import following
    from segkd.workbench import making
    from segkd.workbench.advice import advise as measure

    cfg = distillation_config(
        student, teacher, recipe=recipe, binds=binds, data=data, root=root, size=size,
        words=dict(batch=batch, device=device),
        config=None if threads is None else {"engine": {"threads": threads}},
    )  # fmt: skip
    weights = student_weights.folder if isinstance(student_weights, Run) else student_weights
    if weights is not None and not isinstance(weights, str | Path):
        raise UserError(f"student_weights= is a run, its folder or a weights file, got {weights!r}")
    with following(shown=progress) as follow:
        return measure(making.for_training(cfg), images, weights, of=of, batches=batches, progress=follow)
