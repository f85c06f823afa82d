"""``segkd.train`` and ``segkd.distill``: a network trained by labels, or by a teacher too, without a config file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segkd.errors import UserError
from segkd.face.composing import alone_config, distillation_config
from segkd.face.run import Run
from segkd.face.spelling import spelled

Size = tuple[int, int]
File = str | Path


@spelled
def train(
    network: Any,
    *,
    data: Any = None,
    root: File | None = None,
    init: File | None = None,
    supervision: Mapping[str, Any] | None = None,
    schedule: File | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch: int | None = None,
    size: Size | None = None,
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    hooks: Sequence[Any] = (),
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    out: File | None = None,
    resume: bool = False,
    preflight: bool = True,
    progress: bool = True,
) -> Run:
    """Train a network by labels, or whatever a config says.

    A network by name brings what was published for it: auxiliary heads and losses, optimiser, schedule (``segkd
    configs`` lists whose); any other has cross entropy on its logits and AdamW. Of an object, a copy is trained.

    Args:
        network: name (``segkd models`` lists them), dict(type=...), class or torch module; or a config: a dict, file,
            shipped name, run folder or Run.
        data: data set: name, dict(type=...), object, or several as (train, val) or {"train": ..., "val": ...}; with a
            config, its root folder will do.
        root: root folder of the data set.
        init: weights file that a network by name begins with, as far as it fits.
        supervision: see ``segkd.supervision.Supervision``.
        schedule: a shipped schedule's name, or a file of one, in place of the network's own.
        steps, epochs: length of the training, one of them; an epoch is a pass over the training split.
        lr: learning rate.
        batch: images per step.
        size: (H, W) of the training crops; by default the data set's, or the first image's, but at most 512x1024.
        device: "cpu", "cuda", "cuda:1"; by default a GPU where there is one.
        precision: "fp32", "bf16" or "fp16".
        workers: processes that load.
        seed: of all that is drawn (0).
        hooks: further hooks, objects or dict(type=...).
        config: further keys, as ``dict(optim=dict(accumulate=2))``; ``segkd configs --keys`` lists all.
        overrides: further values, as ``["optim.optimizer.weight_decay=1e-4"]``.
        out: run folder; ``work/`` and what is trained on what by default.
        resume: go on from the run folder's last state.
        preflight: look at it first, as ``check`` does; an error ends it before its first step. Not of a run that goes
            on, nor of several processes.
        progress: show how it goes.

    Raises:
        UserError: anything that does not exist, fit or mean something; before the first file is written.
    """
    words = dict(steps=steps, epochs=epochs, lr=lr, batch=batch, device=device)
    words |= dict(precision=precision, workers=workers, seed=seed)
    cfg = alone_config(
        network, init=init, data=data, root=root, schedule=schedule, size=size, supervision=supervision, config=config,
        overrides=overrides, words=words,
    )  # fmt: skip
    cfg["hooks"] = [*cfg.get("hooks", ()), *hooks]
    return _fit(cfg, out or _place(network, data), resume, preflight, progress)


@spelled
def distill(
    student: Any,
    teacher: Any = None,
    *,
    recipe: File | None = None,
    binds: Any = None,
    data: Any = None,
    root: File | None = None,
    unlabelled: Any = None,
    init: File | None = None,
    supervision: Mapping[str, Any] | None = None,
    schedule: File | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch: int | None = None,
    size: Size | None = None,
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    hooks: Sequence[Any] = (),
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    out: File | None = None,
    resume: bool = False,
    preflight: bool = True,
    progress: bool = True,
) -> Run:
    """Train a student by labels and by a teacher's features; what is not said here is as in ``train``.

    Args:
        student: a network, as in ``train``; or the config of a distillation.
        teacher: a Run, a run folder or weights file of it, a trained network or torch module, dict(type=...,
            weights=...), or what ``segkd.teachers.load_teacher`` takes ("smp:fpn/resnet18@FILE").
        recipe: a shipped recipe's name, or a file of one; by default "kd".
        binds: terms in place of a recipe's, {name: Bind or dict(student=tap, teacher=tap, loss=..., weight=...)};
            losses alone, by name or dict(type=...), compare the logits: "cwd", ["kd", "cwd"].
        data: as in ``train``; by default that of the teacher's run.
        unlabelled: images that only the teacher's terms see, as many in a step as labelled ones
            (``data.unlabelled_ratio``): a folder, or dict(...) of a data set, over what ``data`` says.
    """
    words = dict(steps=steps, epochs=epochs, lr=lr, batch=batch, device=device)
    words |= dict(precision=precision, workers=workers, seed=seed, unlabelled=unlabelled)
    cfg = distillation_config(
        student, teacher, init=init, recipe=recipe, binds=binds, data=data, root=root, schedule=schedule, size=size,
        supervision=supervision, config=config, overrides=overrides, words=words,
    )  # fmt: skip
    cfg["hooks"] = [*cfg.get("hooks", ()), *hooks]
    return _fit(cfg, out or _place(student, data, "distill"), resume, preflight, progress)


def _place(what: Any, data: Any, kind: str = "train") -> Path:
    """Where a run goes unless it is said."""
    from segkd.workbench import making
    from segkd.workbench.runs import default_folder

    if isinstance(what, Run):
        return what.folder
    if isinstance(what, str | Path) and making.is_config(what):
        return default_folder(what)
    names = [making.label(one) for one in (what, data)]
    if not all(names):
        raise UserError("out= is needed: the run folder of what has no name")
    return Path("work") / kind / "_".join(map(str, names))


def _look_first(cfg: Mapping[str, Any], folder: Path, progress: bool) -> None:
    """The preflight: its errors end the run, what it warns of is a warning."""
    from segkd.report.progress import following
    from segkd.training.watch import TermWarning
    from segkd.workbench.preflight import preflight

    with following(shown=progress) as follow:
        found = preflight(cfg, folder=folder, progress=follow)
    if not found.ok:
        raise UserError(f"{found.reason()}; to train all the same: preflight=False")
    for one in found.warnings:
        warnings.warn(f"preflight: {one}", TermWarning, stacklevel=5)


def _fit(cfg: dict[str, Any], out: File, resume: bool, preflight: bool, progress: bool) -> Run:
    from torch import nn

    from segkd.files import writable_folder
    from segkd.training.configfile import objects_unwritten, textual
    from segkd.training.loop import train as run_training
    from segkd.training.processes import is_distributed
    from segkd.workbench.making import for_training

    folder = writable_folder(out)
    if preflight and not resume and not is_distributed():
        _look_first(cfg, folder, progress)
    written = textual(cfg)
    unwritten = list(objects_unwritten(written))
    if progress:
        from segkd.report.live import Live

        with Live(str(folder)) as live:
            run_training(for_training(cfg), folder, resume=resume, hooks=[live], on_first_stage=live.first_stage)
    else:
        run_training(for_training(cfg), folder, resume=resume)
    if unwritten:
        warnings.warn(
            f"{folder} cannot hold {'; '.join(unwritten)}: the commands will not open this run, Python will, by "
            "segkd.load(run, network=...)",
            stacklevel=4,
        )
    elif isinstance(cfg["model"].get("teacher"), nn.Module) and not any(
        map(written["model"]["teacher"].get, ("weights", "source"))
    ):
        warnings.warn(
            f"{folder} does not hold the teacher's weights: to go on by the command line, save them and add "
            "--set model.teacher.weights=FILE",
            stacklevel=4,
        )
    return Run(folder, cfg)
