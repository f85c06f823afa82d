"""Bind: one distillation term, from the student's tap(s) over a connector and a loss to the teacher's tap(s)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from segkd.connectors import CONNECTORS, Connector
from segkd.errors import UserError
from segkd.losses import LOSSES, DistillationLoss
from segkd.taps import TapPath, evaluating, read_taps

SIZES = ("smaller", "student", "teacher")
IGNORE_INDEX = 255


class Bind(nn.Module):
    """One term of a distillation.

    Args:
        student, teacher: a tap path, or a list of them; as many on both sides.
        loss: config of a loss (``dict(type=ChannelWise, temperature=4.0)``).
        connector: config of a connector, used for every pair of taps; None where channels agree already.
        weight: factor of the term.
        size: where maps of different height and width meet: at the "smaller" of both (each axis for itself), or at the
            "student"'s or the "teacher"'s. Shrinking averages areas, growing is bilinear (align_corners=False).
        masked: give the loss the mask of valid pixels (label is not 255), so that void and padding take no part.
    """

    def __init__(
        self,
        student: str | Sequence[str],
        teacher: str | Sequence[str],
        loss: Any,
        connector: Any = None,
        weight: float = 1.0,
        size: str = "smaller",
        masked: bool = False,
    ) -> None:
        super().__init__()
        self.student_paths = [student] if isinstance(student, str) else list(student)
        self.teacher_paths = [teacher] if isinstance(teacher, str) else list(teacher)
        if len(self.student_paths) != len(self.teacher_paths) or not self.student_paths:
            raise UserError(f"a bind needs as many student taps as teacher taps, got {student!r} and {teacher!r}")
        if size not in SIZES:
            raise UserError(f"size policy {size!r} is not one of {', '.join(SIZES)}")
        self.size, self.weight, self.masked = size, float(weight), masked
        self.loss: DistillationLoss = LOSSES.build(loss)
        one_each = [connector] * len(self.student_paths)
        self.connectors = nn.ModuleList([CONNECTORS.build(c) if c is not None else nn.Identity() for c in one_each])
        self.shapes: list[Meeting] = []

    def prepare(self, student: nn.Module, teacher: nn.Module, probe: Mapping[str, Tensor]) -> None:
        """Make connectors and the loss's own parts, from the shapes that one probe batch gives at the taps.

        ``probe`` holds each network's preprocessed input under "student" and "teacher". Channels that cannot meet are a
        UserError.
        """
        at_student = read_taps(student, self.student_paths, probe["student"])
        at_teacher = read_taps(teacher, self.teacher_paths, probe["teacher"])
        pairs = [(at_student[s], at_teacher[t]) for s, t in zip(self.student_paths, self.teacher_paths, strict=True)]
        for connector, (s, t) in zip(self.connectors, pairs, strict=True):
            if isinstance(connector, Connector):
                connector.prepare(tuple(s.shape), tuple(t.shape))
        with evaluating(self.connectors):
            met = [self._meet(c(s), t) for c, (s, t) in zip(self.connectors, pairs, strict=True)]
        self.shapes = [
            Meeting(*paths, tuple(raw[0].shape), tuple(raw[1].shape), tuple(m[0].shape), tuple(m[1].shape))
            for paths, raw, m in zip(zip(self.student_paths, self.teacher_paths, strict=True), pairs, met, strict=True)
        ]
        self._check_channels()
        modules = [TapPath.parse(path).module(teacher) for path in self.teacher_paths]
        self.loss.prepare([tuple(m[0].shape) for m in met], [tuple(m[1].shape) for m in met], modules)

    def forward(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], label: Tensor, image: Tensor, seed: int
    ) -> Tensor:
        """Tapped features of both sides, label (N, H, W), image (N, 3, H, W) uint8 -> weighted scalar."""
        met = [
            self._meet(connector(student[s]), teacher[t])
            for connector, s, t in zip(self.connectors, self.student_paths, self.teacher_paths, strict=True)
        ]
        students, teachers = tuple(m[0] for m in met), tuple(m[1].detach() for m in met)
        label = resize_label(label, met[0][0].shape[-2:])
        options: dict[str, Any] = {"valid": label != IGNORE_INDEX} if self.masked else {}
        draw = self.loss.sample(*(tuple(s.shape) for s in students), seed=seed)
        single = len(met) == 1
        value: Tensor = self.loss(
            students[0] if single else students,
            teachers[0] if single else teachers,
            label,
            image=image,
            draw=draw,
            **options,
        )
        return self.weight * value

    def _meet(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        if self.loss.raw_sizes or student.dim() != 4 or teacher.dim() != 4:
            return student, teacher
        s, t = student.shape[-2:], teacher.shape[-2:]
        target = {"smaller": (min(s[0], t[0]), min(s[1], t[1])), "student": tuple(s), "teacher": tuple(t)}[self.size]
        return resize_feature(student, target), resize_feature(teacher, target)

    def _check_channels(self) -> None:
        if self.loss.any_channels:
            return
        for m in self.shapes:
            if m.student_met[1] != m.teacher_met[1]:
                raise UserError(
                    f"student tap {m.student!r} gives {m.student_met[1]} channels, teacher tap {m.teacher!r} "
                    f"{m.teacher_met[1]}; add connector=dict(type=Conv1x1) to this bind (or, if these are logits, give "
                    "both networks the same num_classes)"
                )


@dataclass(frozen=True, slots=True)
class Meeting:
    """The shapes of one pair of taps: as tapped, and as they enter the loss."""

    student: str
    teacher: str
    student_raw: tuple[int, ...]
    teacher_raw: tuple[int, ...]
    student_met: tuple[int, ...]
    teacher_met: tuple[int, ...]


def resize_feature(x: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, h, w) -> (N, C, H, W): area average where both axes shrink or stay, else bilinear."""
    height, width = x.shape[-2:]
    if (height, width) == tuple(size):
        return x
    if size[0] <= height and size[1] <= width:
        return F.adaptive_avg_pool2d(x, (size[0], size[1]))
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def resize_label(label: Tensor, size: Sequence[int]) -> Tensor:
    """(N, H, W) int64 -> (N, h, w), nearest-exact, so that no class is invented."""
    if tuple(label.shape[-2:]) == tuple(size):
        return label
    return F.interpolate(label[:, None].double(), size=tuple(size), mode="nearest-exact")[:, 0].long()
