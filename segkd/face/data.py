"""``segkd.data``: a data set looked at before a training, by the functions that ``segkd data`` has as subcommands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.face.spelling import spelled

if TYPE_CHECKING:
    from segkd.report.pictures import Image
    from segkd.workbench.converting import Converted
    from segkd.workbench.data_stats import Stats
    from segkd.workbench.datasets import Split
    from segkd.workbench.dividing import Divided

File = str | Path


@spelled
def verify(
    data: Any,
    *,
    root: File | None = None,
    split: str | Sequence[str] | None = None,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> list[Split]:
    """Look at every file of a data set: of each split its ``problems``, ``notes``, ``pixels`` and ``void``.

    Args:
        data, root: as in ``segkd.train``; or a config file or run folder, whose data it is; or a data set's object.
        split: one or several; by default all that have labels.
        limit: pairs of each split to look at, evenly spread; by default all.
        overrides: ``data.key=value`` each.
        progress: show how it goes.
    """
    from segkd.report.progress import following
    from segkd.workbench.datasets import open_section, verify_splits

    section = open_section(data, root, overrides)
    with following(shown=progress) as follow:
        return verify_splits(section, [split] if isinstance(split, str) else split, limit, follow)


@spelled
def stats(
    data: Any,
    *,
    root: File | None = None,
    split: str = "train",
    limit: int | None = None,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> Stats:
    """Count the labels of a split: ``pixels`` and ``images`` of each class, ``sizes``, and ``weights()`` that follow.

    Args:
        data, root, overrides, progress: as in ``segkd.data.verify``.
        split: its name.
        limit: labels to count, evenly spread; by default all.
    """
    from segkd.report.progress import following
    from segkd.workbench.data_stats import count_split
    from segkd.workbench.datasets import open_section

    section = open_section(data, root, overrides)
    with following(shown=progress) as follow:
        return count_split(section, split, limit, follow)


@spelled
def show(
    data: Any,
    *,
    root: File | None = None,
    split: str = "train",
    count: int = 12,
    augmented: bool = False,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    out: File | None = None,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> Image:
    """A contact sheet (H, W, 3) uint8 RGB: images of a split, labels laid over them, a legend of the classes seen.

    Args:
        data, root, overrides, progress: as in ``segkd.data.verify``.
        split: its name.
        count: images, evenly spread.
        augmented: also what the training augmentation makes of each, drawn by ``seed``.
        size: (H, W) of the training crops.
        out: a PNG file to write it to.
    """
    from segkd.files import writable_png
    from segkd.report.contact_sheet import Sheet, draw_sheet
    from segkd.report.pictures import write_png
    from segkd.report.progress import following
    from segkd.workbench.data_pairs import open_pairs
    from segkd.workbench.datasets import open_section

    file = None if out is None else writable_png(out)
    found = open_pairs(open_section(data, root, overrides, size, augmented), split, count, augmented, seed)
    with following(shown=progress) as follow:
        sheet = Sheet(found.dataset.class_names, found.dataset.palette, found.title(), found.heads)
        picture = draw_sheet(sheet, found.rows(follow))
    if file is not None:
        write_png(file, picture)
    return picture


@spelled
def convert(
    data: Any,
    out: File,
    *,
    root: File | None = None,
    force: bool = False,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> Converted:
    """Write labels of any format as PNGs of class ids; ``data=OUT`` trains on them.

    Args:
        data, root, overrides, progress: as in ``segkd.data.verify``.
        out: the folder; stopped and called again, it is gone on with.
        force: write anew what is there.
    """
    from segkd.report.progress import following
    from segkd.workbench.converting import convert_labels
    from segkd.workbench.datasets import open_section

    section = open_section(data, root, overrides)
    with following(shown=progress) as follow:
        return convert_labels(section, out, force=force, progress=follow)


@spelled
def split(
    data: Any,
    *,
    val: float = 0.2,
    test: float = 0.0,
    group: str | None = None,
    seed: int = 0,
    out: File | None = None,
    force: bool = False,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> Divided:
    """Divide images into ``train.txt``, ``val.txt`` (and ``test.txt``), with equal shares of every class.

    Args:
        data, overrides, progress: as in ``segkd.data.verify``; data of your own, by its folder or its arguments.
        val, test: shares of the images.
        group: what stays in one split: "prefix" (frames of a sequence), "folder", or a regular expression.
        seed: of the draws.
        out: folder of the lists; by default ``splits`` in that of the data, where ``data=FOLDER`` finds them.
        force: write over lists that are there.
    """
    from segkd.report.progress import following
    from segkd.workbench.datasets import open_section
    from segkd.workbench.dividing import divide

    section = open_section(data, None, overrides)
    with following(shown=progress) as follow:
        return divide(section, val=val, test=test, group=group, seed=seed, out=out, force=force, progress=follow)
