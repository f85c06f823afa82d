"""The file to ship, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.face.spelling import spelled

if TYPE_CHECKING:
    from segkd.workbench.ship import Shipped


@spelled
def ship(
    model: Any,
    *,
    sizes: Sequence[tuple[int, int]],
    max_ms: float | None = None,
    min_miou: float | None = None,
    out: str | Path = "work/ship",
    root: str | Path | None = None,
    ways: Sequence[str] = (),
    split: str = "val",
    images: int | None = None,
    calibration: int = 16,
    threads: int = 2,
    minutes: float | None = None,
    progress: bool = True,
) -> Shipped:
    """Find the best file of a student within a time, or the fastest with a score, on this machine.

    Called again with the same folder it goes on where it stopped.

    Args:
        model: a Run, a run folder, or student weights in one.
        sizes: of images, (H, W) each, the likeliest first.
        max_ms, min_miou: the most accurate file that takes so many milliseconds or less, or the fastest that has so
            much mIoU (percent) or more; one of both.
        out: folder for the file, all tries as table and picture, programs that run it, and a card.
        root: of the data set, if it has moved.
        ways: to run a file (``segkd.workbench.candidates.WAYS``); by default all that this machine has.
        split, images: what labels are scored on: so many images of it, or all.
        calibration: images of the training split.
        threads: CPU threads.
        minutes: begin with no further file after that.

    Returns:
        What was chosen: ``path`` of the file, its ``row``, the ``rows`` of all tries, and their ``front``.
    """
    from segkd.face import opening
    from segkd.files import writable_folder
    from segkd.report.progress import following
    from segkd.report.shipment import write_shipment
    from segkd.training.build import build_dataset, class_names
    from segkd.training.environment import environment
    from segkd.workbench.ship import Budget
    from segkd.workbench.ship import ship as search
    from segkd.workbench.snippets import texts_beside

    cfg, weights = opening.config_and_weights(model, root)
    folder = writable_folder(out)
    with following(shown=progress) as follow:
        found = search(
            cfg, weights, folder, sizes, Budget(max_ms, min_miou), ways=ways, split=split, images=images,
            calibration=calibration, threads=threads, minutes=minutes, progress=follow,
        )  # fmt: skip
    count = images or len(build_dataset(cfg, split))
    about = {"split": split, "images": count, "threads": threads, **environment(cfg.get("seed"))}
    texts = texts_beside(found.row, found.path.name, class_names(cfg)[0], about)
    write_shipment(folder, found.rows, found.front, found.row, found.left_out, texts, about)
    return found
