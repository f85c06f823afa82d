"""A teacher judged before it teaches: its score on a few images, its classes, and why it does badly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from torch import Tensor

from segkd.datasets import SegmentationDataset
from segkd.models import Network
from segkd.workbench import Row
from segkd.workbench.agreement import (
    LEAST_KAPPA,
    Agreement,
    Classes,
    agreement,
    described,
    in_order,
    is_shift,
    other_order,
)
from segkd.workbench.findings import ERROR, FINE, WARNING, Finding
from segkd.workbench.records import Record
from segkd.workbench.teacher_trials import Autocast, Better, Looks, better_preprocess

CHANCE = 0.2  # kappa of a teacher that knows next to nothing
FAR, NEAR = 0.6, 0.9  # of the recorded score: far below it; as good as it, on a few images
SECONDS = 5.0  # for looking at images, and again for trying other preprocessings


class Teacher(NamedTuple):
    """A teacher to be judged.

    key: its place in the config ("model.teacher").
    record: what lies beside its weights; its score is None where that is of other data.
    compared: True if a bind compares its logits, so that its classes must be the data's.
    """

    key: str
    network: Network
    record: Record
    compared: bool

    @property
    def name(self) -> str:
        """What messages call it: "teacher", or its own name among several."""
        return self.key.replace("model.teachers.", "teacher ").replace("model.", "")


def check_teacher(
    teacher: Teacher,
    dataset: SegmentationDataset,
    images: int = 8,
    seconds: float = SECONDS,
    autocast: Autocast = nullcontext,
) -> tuple[Row, list[Finding]]:
    """Scores of a teacher on evenly spread images, and what is wrong with it; it is left as it was.

    Args:
        teacher: its network in eval mode, on its device.
        dataset: the validation split, with K classes.
        images: how many to look at; fewer if they take longer than ``seconds``.
        seconds: for looking, and as many for trying other preprocessings.
        autocast: the context of a forward pass.

    Returns:
        A row with ``name``, ``images``, ``miou`` and ``pixel_accuracy`` (percent), ``kappa``, ``recorded_miou``; and
        the findings.
    """
    looks = Looks(teacher.network, dataset, images, seconds, autocast)
    counts = looks.total()
    given = in_order(*counts.shape)
    own, recorded = agreement(counts, given), teacher.record.miou
    row: Row = {"name": teacher.name, "images": len(looks.samples), **own._asdict(), "recorded_miou": recorded}
    if not looks.finite:
        what = f"{teacher.name}: its logits are not finite"
        cure = "its weights are damaged, or its preprocessing or precision (engine.teacher_precision) is wrong"
        return row, [Finding(ERROR, what, cure)]
    if int((counts.sum(1) > 0).sum()) < 2:
        what = f"{teacher.name}: the {len(looks.samples)} validation images hold one class at most: nothing to judge by"
        return row, [Finding(WARNING, what, "look at more images (--images)")]
    well = recorded is not None and own.miou >= NEAR * recorded
    better = None if well else better_preprocess(looks, seconds)
    order = better.classes if better else other_order(counts, given)
    order = None if order == given else order
    return row, [*_of_outputs(teacher, dataset, counts), *_verdict(teacher, dataset, row, own, better, order)]


def _verdict(
    teacher: Teacher,
    dataset: SegmentationDataset,
    row: Row,
    own: Agreement,
    better: Better | None,
    order: Classes | None,
) -> Iterator[Finding]:
    score = f"{teacher.name}: {own.miou:.1f} mIoU on {row['images']} validation images"
    recorded = teacher.record.miou
    if recorded is not None:
        score += f", {recorded:.1f} recorded beside its weights"
    if better is not None:
        cure = f"its weights were trained so: give it preprocess={_written(better.trial.preprocess)}"
        what = f"{score}: wrong preprocessing: {better.trial.what}, which brings {better.after.miou:.1f}"
        yield Finding(ERROR, what, cure)
    if order is not None:
        yield _of_order(score, dataset, order)
    if better is not None or order is not None:
        return
    if own.kappa < CHANCE:
        what = f"{score}, near chance (kappa {own.kappa:.2f}): no usual preprocessing and no order of classes"
        yield Finding(ERROR, f"{what} helps", f"its weights look missing or random: set {teacher.key}.weights")
    elif recorded is not None and own.miou < FAR * recorded:
        cure = "is this its data, at its size? Its record is of other images or of other weights"
        yield Finding(ERROR, f"{score}: far below, and no usual preprocessing and no order of classes helps", cure)
    elif own.kappa < LEAST_KAPPA:
        what = f"{score}, {own.pixel_accuracy:.1f} % of the pixels right: a weak teacher (kappa {own.kappa:.2f})"
        yield Finding(WARNING, what, "train it longer, or take another")
    else:
        yield Finding(FINE, f"{score}, {own.pixel_accuracy:.1f} % of the pixels right")


def _of_order(score: str, dataset: SegmentationDataset, order: Classes) -> Finding:
    shift = is_shift(order, dataset.num_classes)
    names = dataset.class_names
    cure = f"say which output means each class: load_teacher(..., classes={described(order, len(names))})"
    if shift is not None:
        first = "its first output is void" if shift > 0 else "void comes last in it and first in the labels"
        return Finding(ERROR, f"{score}: shifted classes: each is one output away from its place ({first})", cure)
    moved = [(j, k) for j, k in enumerate(order) if k is not None and k != j]
    shown = ", ".join(f"output {j} is {names[k]}" for j, k in moved[:4]) + (", ..." if len(moved) > 4 else "")
    return Finding(ERROR, f"{score}: permuted classes: {shown}", cure)


def _written(preprocess: dict[str, Any]) -> str:
    """The constants of a preprocessing as a config has them."""
    numbers = {key: tuple(f"{v:.6g}" for v in preprocess[key]) for key in ("mean", "std")}
    mean, std = (f"({', '.join(numbers[key])})" for key in ("mean", "std"))
    return f"dict(mean={mean}, std={std}, scale={preprocess['scale']:.6g}, channels={preprocess['channels']!r})"


def _of_outputs(teacher: Teacher, dataset: SegmentationDataset, counts: Tensor) -> Iterator[Finding]:
    """As many outputs as classes; of one more, which is void."""
    num_classes, outputs = counts.shape
    if outputs == num_classes:
        return
    level = ERROR if teacher.compared else WARNING
    what = f"{teacher.name}: {outputs} outputs, but the data has {num_classes} classes"
    if outputs == num_classes + 1:
        last, first = (agreement(counts, in_order(num_classes, outputs, shift)).miou for shift in (0, 1))
        if max(last, first) > 0:
            void = "last" if last >= first else "first"
            what += f": its {void} output is void ({last:.1f} mIoU with the last as void, {first:.1f} with the first)"
            order = in_order(num_classes, outputs, 0 if void == "last" else 1)
            yield Finding(level, what, f"drop it: load_teacher(..., classes={described(order, num_classes)})")
            return
    yield Finding(level, what, "say which output means each class: load_teacher(..., classes=[...])")


def check_names(teacher: Teacher, names: Sequence[str]) -> Iterator[Finding]:
    """Findings on the classes that a teacher says it has, or that its run had, beside the data's ``names``."""
    own = getattr(teacher.network, "class_names", None) or teacher.record.class_names
    if own is None:
        return
    theirs, ours = [_plain(name) for name in own], [_plain(name) for name in names]
    if theirs == ours:
        return
    if sorted(theirs) == sorted(ours):
        order = tuple(ours.index(name) for name in theirs)
        what = f"{teacher.name}: permuted classes: it has the data's classes in another order"
        cure = f"say which output means each class: load_teacher(..., classes={described(order, len(names))})"
        yield Finding(ERROR, what, cure)
        return
    pairs = enumerate(zip(own, names, strict=False))
    unlike = [f"{k} {a!r}, not {b!r}" for k, (a, b) in pairs if _plain(a) != _plain(b)]
    count = f"{len(own)} and {len(names)} classes; " if len(own) != len(names) else ""
    shown = ", ".join(unlike[:3]) + (", ..." if len(unlike) > 3 else "")
    what = f"{teacher.name}: its classes are called otherwise than the data's: {count}{shown}"
    cure = "fine if they are the same things; else say which output means each class: load_teacher(..., classes=[...])"
    yield Finding(WARNING, what, cure)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())
