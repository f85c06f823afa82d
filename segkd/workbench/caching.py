"""A teacher's answers to all images of a training, kept in a folder, so that it runs once and not in every step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.datasets.answers import (
    ABOUT,
    FLOAT16,
    KINDS,
    LABELLED,
    UNLABELLED,
    file_of,
    write_maps,
)
from segkd.datasets.base import Array
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.models import Network
from segkd.roles import PREACT, is_role, resolve_role, roles_of
from segkd.segmentor import PROBE_SIZE, probe_input
from segkd.taps import read_taps
from segkd.training.build import answers_of, build_dataset, build_model, build_unlabelled
from segkd.training.config import Config
from segkd.training.configfile import textual
from segkd.workbench import Progress, silent
from segkd.workbench.resuming import changed, write_said
from segkd.workbench.runs import default_device

CLOSE = 1e-3  # of the largest logit: by so much may upsampled maps of the classifier differ from the logits


class Cached(NamedTuple):
    """What was kept.

    folder: of the answers.
    images: {part: how many}.
    taps: {tap: (channels, height, width) for the first image}.
    bytes: of all files.
    seconds: that it took, of those images that were not there yet.
    """

    folder: Path
    images: dict[str, int]
    taps: dict[str, tuple[int, ...]]
    bytes: int
    seconds: float


def cache_answers(
    cfg: Mapping[str, Any] | Config,
    out: str | Path,
    *,
    kind: str = FLOAT16,
    top: int = 0,
    progress: Progress = silent,
) -> Cached:
    """Keep what a distillation's terms need of its teacher, for every training image, as a whole and unchanged.

    Of logits that are a smaller map upsampled, that map is kept. What is there already stays.

    Args:
        cfg: the distillation; its recipe says which taps, its data which images, those without labels too.
        out: folder; ``--teacher FOLDER`` trains on it.
        kind: "float16" or "uint8".
        top: of the logits, keep so many classes, the likeliest (0: all).
        progress: told of the images.

    Raises:
        UserError: no teacher, several, or one that is kept already; answers of another teacher in the folder.
    """
    if kind not in KINDS:
        raise UserError(f"answers are kept as {' or '.join(KINDS)}, not {kind!r}")
    cfg, folder = Config.of(cfg), Path(out)
    network, taps = _teacher(cfg)
    network = network.to(default_device())
    dataset, unlabelled = build_dataset(cfg, "train"), build_unlabelled(cfg)
    parts: dict[str, tuple[int, Callable[[int], Array]]] = {LABELLED: (len(dataset), lambda k: dataset[k].image)}
    if unlabelled is not None:
        parts[UNLABELLED] = (len(unlabelled), unlabelled.__getitem__)
    first = dataset[0].image
    paths, logits = _kept(network, taps, first)
    if top and logits is None:
        raise UserError(f"top={top} is of logits, and no term of this recipe compares them")
    if top > network.num_classes:
        raise UserError(f"top={top}: the teacher has {network.num_classes} classes")
    shapes = [tuple(value.shape[1:]) for value in _maps(network, paths, first)]
    about = {
        "teacher": textual(cfg.model["teacher"]),
        "num_classes": network.num_classes,
        "class_names": None if network.class_names is None else list(network.class_names),
        "taps": [
            {"path": path, "channels": shape[0], "cells": shape[1:], "image": first.shape[:2]}
            for path, shape in zip(paths, shapes, strict=True)
        ],
        "roles": _roles(network, paths, _texts(cfg)),
        "logits": logits,
        "kind": kind,
        "top": top,
        "parts": {part: count for part, (count, _) in parts.items()},
    }
    _begin(folder, about, list(parts))
    began = time.monotonic()
    for part, (count, image_of) in parts.items():
        for number in range(count):
            progress(f"keeping answers, {part}", number, count)
            path = file_of(folder, part, number)
            if not path.is_file():
                image = image_of(number)
                write_maps(path, [value[0] for value in _maps(network, paths, image)], image, kind, top)
    return Cached(
        folder=folder,
        images={part: count for part, (count, _) in parts.items()},
        taps=dict(zip(paths, shapes, strict=True)),
        bytes=sum(path.stat().st_size for part in parts for path in (folder / part).iterdir()),
        seconds=time.monotonic() - began,
    )


def _teacher(cfg: Config) -> tuple[Network, list[str]]:
    """The only teacher of a distillation, and the taps that its terms read."""
    if "teacher" not in cfg.model:
        raise UserError("nothing to keep: the config has no teacher, or several (model.teachers)")
    if (kept := answers_of(cfg.model)) is not None:
        raise UserError(f"{kept} holds answers already; name the teacher itself")
    if not isinstance(cfg.model["teacher"], Mapping):
        raise UserError("a teacher that is given as an object cannot be named in a file: save it, and give the file")
    model = build_model(cfg)
    if not isinstance(model, Distiller):
        raise UserError("nothing to keep: the config has no teacher")
    taps = dict.fromkeys(path for bind in model.terms().values() for path in bind.teacher_paths)
    return model.teacher, list(taps)


@torch.no_grad()
def _maps(network: Network, paths: Sequence[str], image: Array) -> list[Tensor]:
    """The maps (1, C, h, w) that the taps give for an image (H, W, 3) uint8."""
    device = next(network.parameters(), torch.empty(0)).device
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous().to(device)
    found = read_taps(network, list(paths), network.preprocess(batch))
    flat = next((path for path in paths if found[path].dim() != 4), None)
    if flat is not None:
        raise UserError(f"the teacher's tap {flat!r} gives {tuple(found[flat].shape)}, no map that could be kept")
    return [found[path].float() for path in paths]


def _kept(network: Network, taps: Sequence[str], image: Array) -> tuple[list[str], dict[str, Any] | None]:
    """The taps to keep, what the logits are made of first; and how they are made of it."""
    others = [path for path in taps if path != ""]
    if "" not in taps:
        return others, None
    classifier = roles_of(network, probe_input(network, PROBE_SIZE)).get("classifier")
    if isinstance(classifier, str) and classifier != "":
        small, full = _maps(network, [classifier, ""], image)
        for corners in (False, True):
            made = F.interpolate(small, size=full.shape[-2:], mode="bilinear", align_corners=corners)
            if made.shape == full.shape and (made - full).abs().max() <= CLOSE * full.abs().max():
                paths = [classifier, *(path for path in others if path != classifier)]
                return paths, {"tap": classifier, "align_corners": corners}
    return ["", *others], {"tap": "", "align_corners": False}


def _texts(cfg: Config) -> list[str]:
    """What the binds' teacher taps are called in the config."""
    given = [bind["teacher"] for bind in cfg.model["binds"].values()]
    return [text for one in given for text in ([one] if isinstance(one, str) else one)]


def _roles(network: Network, paths: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    """The roles of the teacher whose taps are all kept; of the stages, those that are."""
    probe = probe_input(network, PROBE_SIZE)
    found: dict[str, str | list[str]] = dict(roles_of(network, probe))
    for text in texts:
        if is_role(text) and PREACT in text:
            name = text[1:].partition("[")[0]
            resolved = resolve_role(network, f"@{name}", probe)
            found[name] = resolved if name.startswith("stages") else resolved[0]
    kept: dict[str, Any] = {}
    for role, taps in found.items():
        own = [tap for tap in ([taps] if isinstance(taps, str) else taps) if tap in paths and tap != ""]
        if own:
            kept[role] = own[0] if isinstance(taps, str) else own
    return kept


def _begin(folder: Path, about: Mapping[str, Any], parts: Sequence[str]) -> None:
    """Write what is about to be kept; a folder in which something else was is refused."""
    path = folder / ABOUT
    if path.is_file():
        if (other := changed(path, about)) is not None:
            raise UserError(f"{folder} holds answers with another {other[0]}: take another folder, or delete it")
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no answers: take another folder")
    for part in parts:
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_said(path, about)
