"""A student trained by labels and by frozen teacher features: one training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.binding import Bind
from segkd.errors import UserError
from segkd.models import NETWORKS, Network
from segkd.registry import construct
from segkd.segmentor import PROBE_SIZE, TrainingModel, probe_input
from segkd.supervision import Supervision
from segkd.taps import tap


class Distiller(TrainingModel):
    """Student + supervision + binds to a frozen teacher.

    The student and its heads are made first, so that with the same seed they start bit-equal to a ``Segmentor``'s. The
    teacher runs in eval mode without gradient and moves with the module between devices, but is in neither
    ``parameters()`` nor ``state_dict()``.

    Args:
        student, teacher: configs of networks, or Networks. A teacher from a config needs ``weights``, a local
            file, unless ``untrained_teacher`` says that noise is wanted.
        binds: ``{name: dict(student=path, teacher=path, loss=..., connector=..., weight=...)}``, see ``Bind``.
        supervision: see ``segkd.supervision.Supervision``.
        probe_size: (H, W) of the probe that finds the shapes at the taps.
        untrained_teacher: accept a teacher without weights (tests only).
    """

    def __init__(
        self,
        student: Any,
        teacher: Any,
        binds: Mapping[str, Mapping[str, Any]],
        supervision: Mapping[str, Mapping[str, Any]] | None = None,
        probe_size: Sequence[int] = PROBE_SIZE,
        untrained_teacher: bool = False,
    ) -> None:
        super().__init__()
        self.student = NETWORKS.build(student)
        student_probe = probe_input(self.student, probe_size)
        self.supervision = Supervision(supervision, self.student, student_probe)
        if not binds:
            raise UserError("a Distiller needs at least one bind; to train without a teacher use Segmentor")
        # In a list, nn.Module does not see it: no parameter, no buffer, no train() of the teacher is ever registered.
        self._teachers = [build_teacher(teacher, untrained_teacher)]
        probe = {"student": student_probe, "teacher": probe_input(self.teacher, probe_size)}
        self.binds = nn.ModuleDict()
        for name, cfg in binds.items():
            self.binds[name] = self._make_bind(name, cfg, probe)

    @property
    def teacher(self) -> Network:
        return self._teachers[0]

    def _make_bind(self, name: str, cfg: Mapping[str, Any], probe: Mapping[str, Tensor]) -> Bind:
        try:
            bind: Bind = construct(Bind, cfg)
            bind.prepare(self.student, self.teacher, probe)
        except UserError as error:
            raise UserError(f"bind {name!r}: {error}") from error
        return bind

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        """Device, dtype and memory format reach the unregistered teacher too."""
        super()._apply(fn, recurse)
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def losses(self, image: Tensor, label: Tensor, step: int) -> dict[str, Tensor]:
        binds: dict[str, Bind] = dict(self.binds.items())  # type: ignore[arg-type]
        paths = [*self.supervision.paths, *(p for bind in binds.values() for p in bind.student_paths)]
        with tap(self.student, paths) as features:
            logits = self.student.predict(image)
        targets = self.teach(image)
        terms: dict[str, Tensor] = self.supervision(logits, features, label)
        for name, bind in binds.items():
            terms[f"loss_bind_{name}"] = bind(features, targets, label, image, step)
        return terms

    @torch.no_grad()
    def teach(self, image: Tensor) -> dict[str, Tensor]:
        """The teacher's features at all tapped paths, for an image (N, 3, H, W) uint8."""
        paths = [p for bind in self.binds.values() for p in bind.teacher_paths]  # type: ignore[union-attr]
        with tap(self.teacher, paths) as features:
            self.teacher.predict(image)
        return {path: features[path] for path in dict.fromkeys(paths)}


def build_teacher(cfg: Any, untrained: bool = False) -> Network:
    """The teacher of a config (or a Network): in eval mode, without gradient; a UserError unless it has weights."""
    _check_trained(cfg, untrained)
    try:
        network: Network = NETWORKS.build(cfg)
    except UserError as error:
        raise UserError(f"teacher: {error}") from error
    return network.eval().requires_grad_(False)


def _check_trained(teacher: Any, untrained: bool) -> None:
    if untrained or not isinstance(teacher, Mapping):
        return
    if teacher.get("weights"):
        if not Path(teacher["weights"]).is_file():
            raise UserError(
                f"the teacher's weights file is not found: {teacher['weights']}; train the teacher first, or set "
                "model.teacher.weights to a file"
            )
        return
    raise UserError(
        "the teacher has no weights: set model.teacher.weights to a file (or untrained_teacher=True if that is meant)"
    )
