"""A student trained by labels and by frozen teacher features: one training step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.arguments import flag, part_name
from segkd.binding import Bind, own_rng
from segkd.errors import UserError
from segkd.meeting import one_or_all, resize_feature
from segkd.models import NETWORKS, Network
from segkd.registry import construct
from segkd.segmentor import PROBE_SIZE, TrainingModel, probe_input
from segkd.supervision import IGNORE_INDEX, Supervision
from segkd.taps import eval_mode, read_taps, tap
from segkd.views import ANSWERS, VIEW, WHOLE, warp

AVERAGE = "average"
#: of a teacher whose answers were kept: (answers, taps, size of the images) -> {tap: feature}
Recall = Callable[[Mapping[str, Tensor], Sequence[str], Sequence[int]], Mapping[str, Tensor]]


class Distiller(TrainingModel):
    """Student + supervision + binds to one or several frozen teachers.

    The student and its heads are made first, so that with the same seed they start bit-equal to a ``Segmentor``'s.
    Teachers run in eval mode without gradient and move with the module between devices, but are in neither
    ``parameters()`` nor ``state_dict()``. A teacher whose binds are all off at a step does not run.

    Args:
        student: config of a network, or a Network.
        teacher: the same; from a config it needs ``weights``, a local file, unless ``untrained_teacher``.
        teachers: instead of ``teacher``, ``{name: config}``; each bind then says ``of=name`` or ``of="average"``.
        binds: ``{name: dict(student=path, teacher=path, loss=..., connector=..., weight=...)}``, see ``Bind``.
        supervision: ``{name: dict(tap=..., head=..., loss=..., weight=...)}``, see ``segkd.supervision.Supervision``;
            default cross entropy on the logits.
        probe_size: (H, W) of the probe that finds the shapes at the taps.
        untrained_teacher: accept a teacher without weights (tests only).
        teacher_bands: how many bands of an image the teachers see, the first ones; by default as many as the student.
    """

    #: in which the teachers compute (autocast); None: in the student's
    teacher_dtype: torch.dtype | None = None

    def __init__(
        self,
        student: Any,
        teacher: Any = None,
        binds: Mapping[str, Mapping[str, Any]] | None = None,
        supervision: Mapping[str, Mapping[str, Any]] | None = None,
        probe_size: Sequence[int] = PROBE_SIZE,
        untrained_teacher: bool = False,
        teachers: Mapping[str, Any] | None = None,
        teacher_bands: int | None = None,
    ) -> None:
        super().__init__()
        self.student = NETWORKS.build(student)
        student_probe = probe_input(self.student, probe_size)
        self.supervision = Supervision(supervision, self.student, student_probe)
        if not binds:
            raise UserError("a Distiller needs at least one bind; to train without a teacher use Segmentor")
        _check_binds(binds)
        named = _named(teacher, teachers)
        flag(untrained_teacher, "untrained_teacher", "a Distiller")
        # In a dict, nn.Module does not see them: no parameter, no buffer, no train() of a teacher is ever registered.
        key = {name: f"model.teachers.{name}" if teachers else "model.teacher" for name in named}
        self.teachers = {name: build_teacher(cfg, untrained_teacher, key[name]) for name, cfg in named.items()}
        _check_bands(self.teachers.values(), self.student, teacher_bands)
        probes = {name: probe_input(network, probe_size) for name, network in self.teachers.items()}
        self.binds = nn.ModuleDict()
        for name, cfg in binds.items():
            with own_rng(f"bind {name}"):
                self.binds[name] = self._make_bind(name, cfg, student_probe, probes)

    @property
    def teacher(self) -> Network:
        """The only teacher, or the first."""
        return next(iter(self.teachers.values()))

    def _make_bind(
        self, name: str, cfg: Mapping[str, Any], student_probe: Tensor, probes: Mapping[str, Tensor]
    ) -> Bind:
        try:
            bind: Bind = construct(Bind, cfg)
            first, *others = self._sources(bind)
            probe = {"student": student_probe, "teacher": probes[first]}
            bind.prepare(self.student, self.teachers[first], probe, averaged=bool(others))
            for other in others:
                self._check_alike(bind, first, other, probes)
        except UserError as error:
            raise UserError(f"bind {name!r}: {error}") from error
        return bind

    def _sources(self, bind: Bind) -> list[str]:
        """The names of the teachers that a bind listens to."""
        names = list(self.teachers)
        if bind.of == AVERAGE or (bind.of is None and len(names) == 1):
            return names
        if bind.of not in names:
            problem = "say which teacher it listens to" if bind.of is None else f"there is no teacher {bind.of!r}"
            raise UserError(f"{problem}: of= one of {', '.join(map(repr, [*names, AVERAGE]))}")
        return [bind.of]

    def _check_alike(self, bind: Bind, first: str, other: str, probes: Mapping[str, Tensor]) -> None:
        """What is averaged must have the same channels."""
        given = [read_taps(self.teachers[name], bind.teacher_paths, probes[name]) for name in (first, other)]
        for path in bind.teacher_paths:
            ours, theirs = (features[path].shape[1] for features in given)
            if ours != theirs:
                raise UserError(
                    f"tap {path!r} gives {ours} channels in teacher {first!r} and {theirs} in {other!r}; only equal "
                    "ones can be averaged"
                )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        """Device, dtype and memory format reach the unregistered teachers too."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for network in self.teachers.values():
            network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def terms(self) -> dict[str, Bind]:
        """The binds by name."""
        return dict(self.binds.items())  # type: ignore[arg-type]

    def parameter_options(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for name, bind in self.terms().items():
            options = bind.parameter_options()
            found |= {f"binds.{name}.{key}": value for key, value in options.items()}
        return found

    def after_step(self) -> None:
        for bind in self.terms().values():
            bind.loss.after_step()

    def critic_parameters(self) -> list[nn.Parameter]:
        """What the optimiser of the critics trains, of all binds."""
        return [p for bind in self.terms().values() for p in bind.critic_parameters()]

    def critic_losses(self) -> dict[str, Tensor]:
        values = {name: bind.critic_loss() for name, bind in self.terms().items()}
        return {f"critic_{name}": value for name, value in values.items() if value is not None}

    def losses(
        self,
        image: Tensor,
        label: Tensor,
        step: int,
        index: Tensor | None = None,
        labelled: Tensor | None = None,
        **views: Tensor,
    ) -> dict[str, Tensor]:
        """Terms of supervision, of the labelled images, and of the binds, of all (see ``TrainingModel.losses``).

        Args:
            views: what the teachers see in place of the image, see ``taught``.
            labelled: (N,), true for images with labels, which come first; the label of any other is 0 within the image
                and 255 where it was padded. None: all have labels.
        """
        binds = self.terms()
        paths = [*self.supervision.paths, *(p for bind in binds.values() for p in bind.student_paths)]
        logits, features = self.run(self.student, paths, image)
        targets = self.teach(image, step, views)
        extent, label = label, _without_unlabelled(label, labelled)
        own = slice(None) if labelled is None else slice(int(labelled.sum()))
        terms: dict[str, Tensor] = self.supervision(
            logits[own], {path: feature[own] for path, feature in features.items()}, label[own]
        )
        seed = self.seed * 1_000_003 + step
        for name, bind in binds.items():
            given = (features, targets.get(name, {}), label, image, seed, index, step)
            terms[f"loss_bind_{name}"] = bind(*given, extent=extent)
        return terms

    @torch.no_grad()
    def teach(
        self, image: Tensor, step: int = 0, views: Mapping[str, Tensor] | None = None
    ) -> dict[str, dict[str, Tensor]]:
        """The teachers' features by bind (those on at ``step``) and tap, see ``taught``."""
        return self.taught({name: bind for name, bind in self.terms().items() if bind.is_on(step)}, image, views)

    @torch.no_grad()
    def taught(
        self, binds: Mapping[str, Bind], image: Tensor, views: Mapping[str, Tensor] | None = None
    ) -> dict[str, dict[str, Tensor]]:
        """The teachers' features by bind and tap, whatever the step.

        Args:
            binds: those that listen.
            image: (N, 3, H, W) uint8.
            views: of a batch whose images are crops: "whole" (N, 3, h, w) uint8, which the teachers see instead, and
                "view" (N, 4), where the crops lie on them (``segkd.views.View``); features are warped onto the crops.
                Or answers (N, C, h, w) that were kept, by "answers:" and the tap, of a teacher that has ``recall``.
        """
        features: dict[str, Mapping[str, Tensor]] = {}
        for source, network in self.teachers.items():
            paths = [p for bind in binds.values() if source in self._sources(bind) for p in bind.teacher_paths]
            if paths:
                with self._autocast_teacher(image.device):
                    features[source] = self._features(network, paths, image, views or {})
        found: dict[str, dict[str, Tensor]] = {}
        for name, bind in binds.items():
            sources = self._sources(bind)
            found[name] = {path: _mean([features[source][path] for source in sources]) for path in bind.teacher_paths}
        return found

    def _features(
        self, network: Network, paths: Sequence[str], image: Tensor, views: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """What the taps of one teacher give for a batch."""
        if hasattr(network, "recall"):
            kept = {key.removeprefix(ANSWERS): value for key, value in views.items() if key.startswith(ANSWERS)}
            if not kept:
                raise UserError("a teacher's kept answers come with the batches of a training, and here is none")
            recall: Recall = network.recall  # type: ignore[assignment]
            return recall(kept, paths, image.shape[-2:])
        if WHOLE not in views:
            return self.run(network, paths, image)[1]
        features = self.run(network, paths, views[WHOLE])[1]
        flat = next((path for path in paths if features[path].dim() != 4), None)
        if flat is not None:
            raise UserError(f"the teacher's tap {flat!r} is no map: it cannot be warped onto crops (data.teacher_view)")
        return {path: warp(features[path], views[VIEW], views[WHOLE].shape[-2:], image.shape[-2:]) for path in paths}

    def _autocast_teacher(self, device: torch.device) -> AbstractContextManager[Any]:
        dtype = self.teacher_dtype
        if dtype is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)

    def first_stage_parameters(self, name: str) -> list[nn.Parameter]:
        """What the first stage of a bind trains: the loss's own parts, or the student and the bind."""
        bind = self.terms()[name]
        learner = bind.first_learner()
        if learner is not None:
            return learner.first_stage_parameters()
        return [*self.student.parameters(), *bind.parameters()]

    def first_stage_groups(self, name: str) -> list[dict[str, Any]]:
        """What the first stage of a bind trains, in groups {"params": [...]}, with their factors."""
        bind, trained = self.terms()[name], self.first_stage_parameters(name)
        factors = bind.parameter_options()
        own = {id(p): factors.get(key, factors.get("", {})) for key, p in bind.named_parameters()}
        groups: dict[tuple[Any, ...], dict[str, Any]] = {}
        for p in trained:
            options = own.get(id(p), {})
            groups.setdefault(tuple(options.items()), {"params": [], **options})["params"].append(p)
        return list(groups.values())

    def first_stage_loss(
        self,
        name: str,
        image: Tensor,
        label: Tensor,
        index: Tensor | None,
        step: int,
        labelled: Tensor | None = None,
        **views: Tensor,
    ) -> Tensor:
        """What the first stage of a bind lowers, on one batch (see ``losses``)."""
        extent, label = label, _without_unlabelled(label, labelled)
        bind = self.terms()[name]
        teacher, learner = self.taught({name: bind}, image, views)[name], bind.first_learner()
        if learner is None:
            with tap(self.student, bind.student_paths) as features:
                self.student.predict(image)
            return bind.value(features, teacher, label, image, self.seed * 1_000_003 + step, index, extent)
        with torch.no_grad(), eval_mode(self), tap(self.student, bind.student_paths) as features:
            self.student.predict(image)
            teachers = bind.meet(features, teacher)[1]  # at the size at which the loss will get them
        return learner.first_stage_loss(one_or_all(teachers))


def _without_unlabelled(label: Tensor, labelled: Tensor | None) -> Tensor:
    """The label (N, H, W), void in images that have none."""
    return label if labelled is None else label.masked_fill(~labelled[:, None, None], IGNORE_INDEX)


def _check_binds(binds: Any) -> None:
    """A UserError unless they are dicts by names that torch and file names can hold."""
    if not isinstance(binds, Mapping):
        raise UserError(f"binds must be a dict {{name: dict(student=..., teacher=..., loss=...)}}, got {binds!r}")
    for name, cfg in binds.items():
        part_name(name, "bind")
        if not isinstance(cfg, Mapping):
            raise UserError(f"bind {name!r} must be a dict(student=..., teacher=..., loss=...), got {cfg!r}")


def _named(teacher: Any, teachers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Teachers by name, from either argument."""
    if (teacher is None) == (not teachers):
        raise UserError("a Distiller takes either teacher=... or teachers={name: ...}, and needs one of them")
    if teachers is not None and not isinstance(teachers, Mapping):
        raise UserError(f"teachers must be a dict {{name: config}}, got {teachers!r}")
    if teachers and AVERAGE in teachers:
        raise UserError(f"no teacher can be called {AVERAGE!r}: it stands for all of them")
    return dict(teachers) if teachers else {"teacher": teacher}


def _mean(features: Sequence[Tensor]) -> Tensor:
    """The mean of several teachers' features, each resized to the first one's height and width."""
    if len(features) == 1:
        return features[0]
    return torch.stack([resize_feature(x, features[0].shape[-2:]) for x in features]).mean(0)


def build_teacher(cfg: Any, untrained: bool = False, key: str = "model.teacher") -> Network:
    """The teacher of a config (or a Network): in eval mode, without gradient; a UserError unless it has weights.

    ``key`` is its place in the config, for messages.
    """
    _check_trained(cfg, untrained, key)
    try:
        network: Network = NETWORKS.build(cfg)
    except UserError as error:
        label = key.replace("model.teachers.", "teacher ").replace("model.teacher", "teacher")
        raise UserError(f"{label}: {error}") from error
    return network.eval().requires_grad_(False)


def _check_bands(teachers: Iterable[Network], student: Network, seen: int | None) -> None:
    """A UserError for a teacher of other bands than it would get; its preprocessing takes the first ones."""
    own, wanted = student.channels, seen or student.channels
    for one in teachers:
        if not (hasattr(one, "recall") or one.channels == wanted <= own):
            cure = f"; to let it see the first ones alone, say model.teacher_bands={one.channels}"
            kind = f"the teacher {type(one).__name__} takes images of {one.channels} bands"
            raise UserError(f"{kind}, and would get {wanted}{cure * (one.channels < own)}")


def _check_trained(teacher: Any, untrained: bool, key: str) -> None:
    if untrained or not isinstance(teacher, Mapping) or teacher.get("source"):  # load_teacher's, with its weights
        return
    if teacher.get("weights"):
        if not Path(teacher["weights"]).is_file():
            raise UserError(
                f"the teacher's weights file is not found: {teacher['weights']}; train the teacher first, or set "
                f"{key}.weights to a file"
            )
        return
    raise UserError(
        f"the teacher has no weights: set {key}.weights to a file (or untrained_teacher=True if that is meant)"
    )
