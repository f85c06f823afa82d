"""``segkd.train`` and ``segkd.distill``: a network trained by labels, or by a teacher too, without a config file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segkd.errors import UserError
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
    supervision: Mapping[str, Any] | None = None,
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
    progress: bool = True,
) -> Run:
    """Train a network by labels, or whatever a config says.

    A network given as an object stays as it is: a copy of it is trained. Its supervision is cross entropy on its logits
    unless ``supervision`` says more; the shipped configs (``segkd configs``) have what was published.

    Args:
        network: name (``segkd models`` lists them), dict(type=...), class or torch module; or a config: a dict, file,
            shipped name, run folder or Run.
        data: data set: name, dict(type=...), object, or several as (train, val) or {"train": ..., "val": ...}; with a
            config, its root folder will do.
        root: root folder of the data set.
        supervision: see ``segkd.supervision.Supervision``.
        steps, epochs: length of the training, one of them; an epoch is a pass over the training split.
        lr: learning rate; AdamW at 1e-3 unless a config says otherwise.
        batch: images per step (8).
        size: (H, W) of the training crops; the first image's, but at most 512x1024.
        device: "cpu", "cuda", "cuda:1"; by default a GPU where there is one.
        precision: "fp32", "bf16" or "fp16".
        workers: processes that load images.
        seed: of everything that is drawn (0).
        hooks: further hooks, objects or dict(type=...).
        config: further keys, as ``dict(optim=dict(accumulate=2))``; ``segkd configs --keys`` lists all.
        overrides: further values, as ``["optim.optimizer.weight_decay=1e-4"]``.
        out: run folder; ``work/`` and what is trained on what by default.
        resume: go on from the run folder's last state.
        progress: show how it goes.

    Raises:
        UserError: anything that does not exist, fit or mean something; before the first file is written.
    """
    from segkd.workbench import making

    words = dict(steps=steps, epochs=epochs, lr=lr, batch=batch, size=size, device=device)
    words |= dict(precision=precision, workers=workers, seed=seed)
    given = network.config if isinstance(network, Run) else network
    if making.is_config(given):
        cfg = making.open_config(given, data, root)
        if supervision is not None:
            cfg["model"] = {**cfg["model"], "supervision": supervision}
    else:
        cfg = making.alone(given, making.data_section(data, root, size), supervision)
    cfg["hooks"] = [*cfg.get("hooks", ()), *hooks]
    cfg = making.complete(cfg, config, overrides, words)
    return _fit(cfg, out or _place(network, data), resume, progress)


@spelled
def distill(
    student: Any,
    teacher: Any = None,
    *,
    binds: Any = None,
    data: Any = None,
    root: File | None = None,
    supervision: Mapping[str, Any] | None = None,
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
    progress: bool = True,
) -> Run:
    """Train a student by labels and by a teacher's features; what is not said here is as in ``train``.

    Args:
        student: a network, as in ``train``; or the config of a distillation.
        teacher: a Run, a run folder or weights file of it, dict(type=..., weights=...), or a trained network.
        binds: the terms, {name: Bind or dict(student=tap, teacher=tap, loss=..., weight=...)}; losses alone, by name or
            dict(type=...), compare the logits: "cwd", ["kd", "cwd"]. By default "kd".
        data: as in ``train``; by default that of the teacher's run.
    """
    from segkd.workbench import making

    words = dict(steps=steps, epochs=epochs, lr=lr, batch=batch, size=size, device=device)
    words |= dict(precision=precision, workers=workers, seed=seed)
    given = student.config if isinstance(student, Run) else student
    taught_by = _teacher(teacher)
    if making.is_config(given):
        cfg = making.open_config(given, data, root)
        new = {"supervision": supervision, "teacher": taught_by}
        new["binds"] = None if binds is None else making.bind_configs(binds)
        cfg["model"] = {**cfg["model"], **{key: value for key, value in new.items() if value is not None}}
    else:
        if data is None and isinstance(teacher, Run):
            data = {key: value for key, value in teacher.config["data"].items() if size is None or key != "augment"}
        section = making.data_section(data, root, size)
        cfg = making.taught(given, taught_by, binds, section, supervision)
    if "teacher" not in cfg["model"] and "teachers" not in cfg["model"]:
        raise UserError("that config trains a network alone: give the network as student=, with its teacher")
    cfg["hooks"] = [*cfg.get("hooks", ()), *hooks]
    cfg = making.complete(cfg, config, overrides, words)
    return _fit(cfg, out or _place(student, data, "distill"), resume, progress)


def _teacher(given: Any) -> Any:
    """A teacher that was trained here, with its weights; any other as it is."""
    from segkd.face.opening import load_file
    from segkd.workbench import making

    if isinstance(given, Path) or (isinstance(given, str) and Path(given).exists()):
        given = load_file(Path(given))
    if not isinstance(given, Run):
        return given
    found = making.trained(given.config, given.weights())
    return given.student if found is None else found


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


def _fit(cfg: dict[str, Any], out: File, resume: bool, progress: bool) -> Run:
    from torch import nn

    from segkd.files import writable_folder
    from segkd.training.configfile import objects_unwritten, textual
    from segkd.training.loop import train as run_training
    from segkd.workbench.making import for_training

    folder = writable_folder(out)
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
