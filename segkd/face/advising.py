"""``segkd.advise``: what a teacher knows, and with which settings to begin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.errors import UserError
from segkd.face.run import Run
from segkd.face.spelling import spelled

if TYPE_CHECKING:
    from segkd.workbench.advice import Advice

File = str | Path


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
    from segkd.face.training import distillation_config
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
