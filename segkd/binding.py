"""Bind: one distillation term, from the student's tap(s) over a connector and a loss to the teacher's tap(s)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segkd import arguments
from segkd.connectors import CONNECTORS, Connector, Conv1x1
from segkd.errors import UserError, nearest
from segkd.losses import LOSSES, DistillationLoss
from segkd.losses.base import WithCritic, WithFirstStage
from segkd.meeting import Meeting, one_or_all, resize_feature, resize_label, root_mean_square
from segkd.registry import Described, construct
from segkd.roles import is_role, pair_stages, resolve_role
from segkd.taps import TapPath, eval_mode, read_taps
from segkd.weight_schedule import WeightSchedule

SIZES = ("smaller", "half", "student", "teacher")
IGNORE_INDEX = 255
AUTO = "auto"


class Bind(Described, nn.Module):
    """One term of a distillation.

    Args:
        student, teacher: a tap path or a role ("@logits", "@head", "@stages"; see ``segkd.roles``), or a list of them;
            as many on both sides.
        loss: config of a loss (``dict(type=ChannelWise, temperature=4.0)``).
        connector: config of a connector, used for every pair of taps; "auto" is a 1x1 convolution where channels
            differ and the loss minds; None where they agree already.
        weight: its factor.
        schedule: how the weight changes over the training: ``dict(warmup=1000, decay="cosine", stop=40000)``, see
            ``segkd.weight_schedule.WeightSchedule``.
        lr_factor: factor of the learning rate for connectors and the loss's own parts.
        teacher_scale: factor of the teacher's features as they enter the loss, for losses that compare values or
            softmaxes: features with an rms of 0.05 are lost beside the other terms. "auto": a training measures what
            brings them to 1, says it, and writes it into its config. 1 means them as they are; with None, a training
            warns of features out of the loss's ``usual_rms``. With any but 1 the loss gets no ``teacher_modules``, as
            no layer gives what it compares: OFD estimates margins.
        of: name of the teacher, where a Distiller has several; "average" is the mean of all at the tap, each resized to
            the first one's.
        size: where maps meet: at the "smaller" of both (each axis for itself), at "half" of that (a quarter of the
            work), or at the "student"'s or "teacher"'s. Shrinking averages areas, growing is bilinear.
        masked: give the loss the mask of valid pixels (label is not 255), so that void and padding take no part.
        first_stage: ``dict(steps=..., optimizer=dict(type=..., lr=...))``: a training before the main one, of the
            loss's parts that learn from the teacher alone (FT's paraphraser), which it then freezes; else of the
            student by this term alone (as AB and FSP were published, with ``weight=0`` afterwards).
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
        schedule: Mapping[str, Any] | None = None,
        of: str | None = None,
        lr_factor: float = 1.0,
        first_stage: Mapping[str, Any] | None = None,
        teacher_scale: float | str | None = None,
    ) -> None:
        super().__init__()
        self.student_paths, self.teacher_paths = _paths(student, "student"), _paths(teacher, "teacher")
        if not self._by_role() and len(self.student_paths) != len(self.teacher_paths):
            raise UserError(f"a bind needs as many student taps as teacher taps, got {student!r} and {teacher!r}")
        if size not in SIZES:
            raise UserError(f"size policy {size!r} is not one of {', '.join(SIZES)}")
        for name, value in (("schedule", schedule), ("first_stage", first_stage)):
            if not isinstance(value, Mapping | None):
                raise UserError(f"a bind: {name} must be a dict of arguments, got {value!r}")
        self.size, self.of = size, of
        self.masked = arguments.flag(masked, "masked", "a bind")
        self.weight = arguments.number(weight, "weight", "a bind", least=0)
        self.lr_factor = arguments.number(lr_factor, "lr_factor", "a bind", least=0)
        #: the factor is still to be measured
        self.scale_unknown = teacher_scale == AUTO
        scale = 1 if teacher_scale is None or self.scale_unknown else teacher_scale
        self.teacher_scale = arguments.positive(scale, "teacher_scale", "a bind")
        self._meant_as_is = teacher_scale == 1
        self.schedule: WeightSchedule = construct(WeightSchedule, schedule or {})
        self.loss: DistillationLoss = LOSSES.build(loss)
        if not isinstance(self.loss, DistillationLoss):
            own = type(self.loss).__name__
            raise UserError(f"a bind: {own} is no distillation loss; {nearest(own, LOSSES.names())}")
        if self.masked and not self.loss.takes_mask:
            raise UserError(
                f"a bind: {type(self.loss).__name__} judges whole maps and takes no mask; leave out masked=True"
            )
        self.connectors = nn.ModuleList()
        self._connector = connector
        if not self._by_role():
            self._make_connectors()
        self.shapes: list[Meeting] = []
        #: root mean square of the teacher's features as they first entered the loss, where their scale matters
        self.teacher_rms: Tensor | None = None
        self.first_stage = None if first_stage is None else dict(first_stage)
        if self.first_stage is None and self.first_learner():
            raise UserError(
                f"parts of {type(self.loss).__name__} learn from the teacher first: add "
                "first_stage=dict(steps=..., optimizer=dict(type=..., lr=...)) to its bind"
            )
        self._for_critic: dict[str, Any] | None = None

    def prepare(
        self, student: nn.Module, teacher: nn.Module, probe: Mapping[str, Tensor], averaged: bool = False
    ) -> None:
        """Make connectors and the loss's own parts, from the shapes that one probe batch gives at the taps.

        ``probe`` holds each network's preprocessed input under "student" and "teacher". With ``averaged``, ``teacher``
        is the first of several whose features are averaged: no module gives these. Channels that cannot meet are a
        UserError.
        """
        if self._by_role():
            self._resolve(student, teacher, probe)
            self._make_connectors()
        at_student = read_taps(student, self.student_paths, probe["student"])
        at_teacher = read_taps(teacher, self.teacher_paths, probe["teacher"])
        pairs = [(at_student[s], at_teacher[t]) for s, t in zip(self.student_paths, self.teacher_paths, strict=True)]
        for number, (connector, (s, t)) in enumerate(zip(self.connectors, pairs, strict=True)):
            if self._connector == AUTO and (self.loss.any_channels or s.shape[1] == t.shape[1]):
                self.connectors[number] = nn.Identity()
            elif isinstance(connector, Connector):
                with own_rng(f"connector {number}"):
                    connector.prepare(tuple(s.shape), tuple(t.shape))
        with eval_mode(self.connectors), as_user_error("the connector cannot take the student's feature"):
            met = [self._meet(c(s), t) for c, (s, t) in zip(self.connectors, pairs, strict=True)]
        self.shapes = [
            Meeting(*paths, tuple(raw[0].shape), tuple(raw[1].shape), tuple(m[0].shape), tuple(m[1].shape))
            for paths, raw, m in zip(zip(self.student_paths, self.teacher_paths, strict=True), pairs, met, strict=True)
        ]
        self._check_channels()
        made = averaged or self.scale_unknown or self.teacher_scale != 1
        modules = [] if made else [TapPath.parse(path).module(teacher) for path in self.teacher_paths]
        with as_user_error(f"{type(self.loss).__name__} cannot be made for these features"):
            self.loss.prepare([tuple(m[0].shape) for m in met], [tuple(m[1].shape) for m in met], modules)

    def forward(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        label: Tensor,
        image: Tensor,
        seed: int,
        index: Tensor | None = None,
        step: int = 0,
        extent: Tensor | None = None,
    ) -> Tensor:
        """Tapped features of both sides, label (N, H, W), image (N, 3, H, W) uint8 -> weighted scalar.

        ``seed`` is that of the run and the step, ``index`` (N,) the samples' numbers in the data set, ``extent``
        (N, H, W) is 255 at what ``masked`` leaves out: by default the label's void. A zero without
        gradient where the schedule has the term off at ``step``; nothing is computed then.
        """
        self._for_critic = None
        factor = self.weight * self.schedule(step)
        if factor == 0:
            return torch.zeros((), device=label.device)
        return factor * self.value(student, teacher, label, image, seed, index, extent)

    def value(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        label: Tensor,
        image: Tensor,
        seed: int,
        index: Tensor | None = None,
        extent: Tensor | None = None,
    ) -> Tensor:
        """The loss itself, without weight and schedule."""
        students, teachers = self.meet(student, teacher)
        if self.loss.usual_rms and self.teacher_rms is None:
            self.teacher_rms = root_mean_square(teachers)
        label, seen = (resize_label(x, students[0].shape[-2:]) for x in (label, label if extent is None else extent))
        options: dict[str, Any] = {"valid": seen != IGNORE_INDEX} if self.masked else {}
        if self.loss.uses_index:
            options["index"] = index
        numbers = None if index is None else index.tolist()
        draw = self.loss.sample(*(tuple(s.shape) for s in students), seed=seed, index=numbers)
        if isinstance(self.loss, WithCritic):
            detached = one_or_all([s.detach() for s in students])
            self._for_critic = dict(student=detached, teacher=one_or_all(teachers), image=image, draw=draw)
        value: Tensor = self.loss(one_or_all(students), one_or_all(teachers), label, image=image, draw=draw, **options)
        return value

    def first_learner(self) -> WithFirstStage | None:
        """The loss, if parts of it learn from the teacher alone."""
        return self.loss if isinstance(self.loss, WithFirstStage) else None

    def critic_parameters(self) -> list[nn.Parameter]:
        """The parameters of the loss's adversary, if it has one."""
        return self.loss.critic_parameters() if isinstance(self.loss, WithCritic) else []

    def critic_loss(self) -> Tensor | None:
        """The loss of the critic on the features of the last ``forward``; None without one, and where it was off."""
        given, self._for_critic = self._for_critic, None
        if given is None or not isinstance(self.loss, WithCritic):
            return None
        return self.loss.critic_loss(**given)

    def scale_advice(self) -> str:
        """What is wrong with the scale of the teacher's features, as they first entered the loss; "" for nothing."""
        if self.teacher_rms is None or self.loss.usual_rms is None:
            return ""
        rms, (least, largest) = float(self.teacher_rms), self.loss.usual_rms
        if rms == 0:
            return "the teacher's features are 0 everywhere: tap another layer"
        if self._meant_as_is or least <= rms <= largest:
            return ""
        return (
            f"the teacher's features have an rms of {rms:.2g}, which makes {type(self.loss).__name__} "
            f"{'faint' if rms < least else 'loud'}: set teacher_scale={self.teacher_scale / rms:.2g} in this bind for "
            "an rms of 1 (or 1, if they are meant as they are)"
        )

    def meet(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Tapped features -> both sides' as they enter the loss, in the order of the taps; the teacher's detached."""
        met = [
            self._meet(connector(student[s]), teacher[t])
            for connector, s, t in zip(self.connectors, self.student_paths, self.teacher_paths, strict=True)
        ]
        teachers = [m[1].detach() for m in met]
        if self.teacher_scale != 1:
            teachers = [t * self.teacher_scale for t in teachers]
        return [m[0] for m in met], teachers

    def set_scale(self, teacher_rms: float) -> float:
        """The factor that brings features of that rms to 1, in two digits; from now on it is the bind's."""
        if not teacher_rms > 0:
            raise UserError("the teacher's features are 0 everywhere, or not finite: tap another layer")
        self.teacher_scale, self.scale_unknown = float(f"{1 / teacher_rms:.2g}"), False
        return self.teacher_scale

    def parameter_options(self) -> dict[str, dict[str, float]]:
        """Learning rate and weight decay factors by the beginnings of parameter names, where they are not 1."""
        options = {"": {"lr_mult": self.lr_factor}} if self.lr_factor != 1 else {}
        for name in self.loss.no_weight_decay:
            if name not in dict(self.loss.named_parameters()):
                raise UserError(f"{type(self.loss).__name__} has no parameter {name!r} to keep from weight decay")
            options[f"loss.{name}"] = {"lr_mult": self.lr_factor, "decay_mult": 0.0}
        return options

    def is_on(self, step: int) -> bool:
        """True if the schedule lets the term count at ``step``."""
        return self.weight * self.schedule(step) != 0

    def _by_role(self) -> bool:
        return any(map(is_role, (*self.student_paths, *self.teacher_paths)))

    def _resolve(self, student: nn.Module, teacher: nn.Module, probe: Mapping[str, Tensor]) -> None:
        """Put tap paths in the place of roles; of stages, as many as both networks have, from the deepest."""
        found: dict[str, list[str]] = {}
        sides = (("student", student, self.student_paths), ("teacher", teacher, self.teacher_paths))
        for side, network, texts in sides:
            with as_user_error(f"the {side}'s roles cannot be found"):
                resolved = [resolve_role(network, t, probe[side]) if is_role(t) else [t] for t in texts]
            found[side] = [path for paths in resolved for path in paths]
        if any(text.startswith("@stages") and "[" not in text for text in (*self.student_paths, *self.teacher_paths)):
            found["student"], found["teacher"] = pair_stages(found["student"], found["teacher"])
        if len(found["student"]) != len(found["teacher"]):
            given = f"{self.student_paths} and {self.teacher_paths}"
            raise UserError(f"a bind needs as many student taps as teacher taps, got {given}")
        self.student_paths, self.teacher_paths = found["student"], found["teacher"]

    def _make_connectors(self) -> None:
        config = {"type": Conv1x1} if self._connector == AUTO else self._connector
        for number in range(len(self.student_paths)):
            with own_rng(f"connector {number}"):
                self.connectors.append(nn.Identity() if config is None else CONNECTORS.build(config))

    def _meet(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        if self.loss.raw_sizes or student.dim() != 4 or teacher.dim() != 4:
            return student, teacher
        s, t = student.shape[-2:], teacher.shape[-2:]
        smaller = min(s[0], t[0]), min(s[1], t[1])
        half = (smaller[0] + 1) // 2, (smaller[1] + 1) // 2
        target = {"smaller": smaller, "half": half, "student": tuple(s), "teacher": tuple(t)}[self.size]
        return resize_feature(student, target), resize_feature(teacher, target)

    def _check_channels(self) -> None:
        if self.loss.any_channels:
            return
        for m in self.shapes:
            if m.student_met[1] != m.teacher_met[1]:
                raise UserError(
                    f"student tap {m.student!r} gives {m.student_met[1]} channels, teacher tap {m.teacher!r} "
                    f"{m.teacher_met[1]}; add connector='auto' to this bind (or, if these are logits, give "
                    "both networks the same num_classes)"
                )


def _paths(taps: Any, side: str) -> list[str]:
    """One tap path or several as a list."""
    paths = [taps] if isinstance(taps, str) else list(taps) if isinstance(taps, Sequence) else []
    if not paths or not all(isinstance(path, str) for path in paths):
        raise UserError(f"a bind: {side} must be a tap path or a list of them, got {taps!r}")
    return paths


@contextmanager
def as_user_error(what: str) -> Iterator[None]:
    """A context in which what torch cannot compute or allocate is a UserError."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{what}: {' '.join(str(error).split())[:200]}") from error


@contextmanager
def own_rng(name: str) -> Iterator[None]:
    """A context in which torch draws numbers (on the CPU) of its own for each name, the same from the same state.

    The state itself is left as it was, so that what is made afterwards does not depend on what is made here.
    """
    with torch.random.fork_rng(devices=[]):
        seed = int(torch.randint(2**62, ())) + zlib.crc32(name.encode())
        torch.default_generator.manual_seed(seed)
        yield
