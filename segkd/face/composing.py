"""Configs of what Python gives: a network alone, or a student with its teacher; by names, objects, runs or configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segkd.errors import UserError
from segkd.face.run import Run

Size = tuple[int, int]
File = str | Path


def alone_config(
    network: Any,
    *,
    init: File | None = None,
    data: Any = None,
    root: File | None = None,
    schedule: File | None = None,
    size: Size | None = None,
    supervision: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    words: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The config of what ``train`` is given; ``words`` as in ``segkd.training.overrides.WORDS``."""
    from segkd.workbench import making
    from segkd.workbench.composing import compose

    given = network.config if isinstance(network, Run) else network
    if making.is_config(given):
        _no_parts(init=init, schedule=schedule)
        cfg = making.open_config(given, data, root)
        if supervision is not None:
            cfg["model"] = {**cfg["model"], "supervision": supervision}
        return making.complete(cfg, config, overrides, {**(words or {}), "size": size})
    return compose(
        given, init=init, data=data, root=root, schedule=schedule, size=size, supervision=supervision, config=config,
        overrides=overrides, words=words,
    )  # fmt: skip


def distillation_config(
    student: Any,
    teacher: Any = None,
    *,
    init: File | None = None,
    recipe: File | None = None,
    binds: Any = None,
    data: Any = None,
    root: File | None = None,
    schedule: File | None = None,
    size: Size | None = None,
    supervision: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    words: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The config of what ``distill`` is given; ``words`` as in ``segkd.training.overrides.WORDS``."""
    from segkd.workbench import making
    from segkd.workbench.composing import compose, teacher_config

    given = student.config if isinstance(student, Run) else student
    taught_by, words = teacher_with_weights(teacher), words or {}
    if making.is_config(given):
        _no_parts(init=init, recipe=recipe, schedule=schedule)
        cfg = making.open_config(given, data, root)
        count = making.num_classes(cfg["data"])
        new = {"supervision": supervision, "teacher": taught_by and teacher_config(taught_by, count)}
        new["binds"] = None if binds is None else making.bind_configs(binds)
        cfg["model"] = {**cfg["model"], **{key: value for key, value in new.items() if value is not None}}
        cfg = making.complete(cfg, config, overrides, {**words, "size": size})
    else:
        if data is None and isinstance(teacher, Run):
            data = {key: value for key, value in teacher.config["data"].items() if size is None or key != "augment"}
        cfg = compose(
            given, init=init, teacher=taught_by, recipe=recipe or "kd", binds=binds, data=data, root=root,
            schedule=schedule, size=size, supervision=supervision, config=config, overrides=overrides, words=words,
        )  # fmt: skip
    if "teacher" not in cfg["model"] and "teachers" not in cfg["model"]:
        raise UserError("that config trains a network alone: give the network as student=, with its teacher")
    return cfg


def _no_parts(**given: Any) -> None:
    """Parts are composed with a network; a config is complete."""
    if extra := next((name for name, value in given.items() if value is not None), None):
        raise UserError(f"{extra}= goes with a network by name or as an object: a config says it itself; set it there")


def teacher_with_weights(given: Any) -> Any:
    """A teacher that was trained here, with its weights; any other as it is."""
    from segkd.workbench import making

    if not isinstance(given, Run):
        return given
    found = making.trained(given.config, given.weights())
    return given.student if found is None else found
