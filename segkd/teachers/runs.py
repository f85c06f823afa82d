"""Teachers that segkd trained: run folders, student files in them, files of a network by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from segkd.errors import UserError
from segkd.models import NETWORKS, Network, Preprocess
from segkd.models.catalogue import entry
from segkd.models.published import CHECKPOINTS
from segkd.models.statedict import read_state_dict
from segkd.teachers.fitting import PREPROCESS, fit, needed_file, outputs_by_trial

CONFIG, STATE = "config.py", "state.pth"
#: the student's file in a run folder, or in one of a released network: the first of these that is there
WEIGHTS = ("student_best.pth", "student_last.pth", "student.pth")


def load(
    name: str | None, file: Path | None, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """A run's student; or, with a name of ``segkd models`` or ``segkd import-weights``, that network with a file.

    Args:
        name: of the network; None for a run folder or a file in one.
        file: run folder, or weights.
        num_classes: of a named network, where no tensor of the file tells.
        preprocess: in place of the file's.
        download: not used.
    """
    if name is not None:
        return _named(name, needed_file(name, file, "segkd"), num_classes, preprocess)
    if file is None:
        raise UserError("a teacher of segkd is a run folder, a student file in one, or segkd:NAME@FILE")
    folder = file if file.is_dir() else file.parent
    if not (folder / CONFIG).is_file():
        raise UserError(f"{file} is in no run folder; say whose weights these are, segkd:NAME@{file}")
    return _student(folder, _weights(folder) if file.is_dir() else file, preprocess)


def _named(name: str, file: Path, num_classes: int | None, preprocess: Preprocess | None) -> Network:
    if name in CHECKPOINTS:
        network = CHECKPOINTS[name].load(file)
        if preprocess is not None:
            network.preprocess = preprocess
        return network
    tensors, listed = read_state_dict(file), entry(name)
    count = outputs_by_trial(listed.on_meta, tensors) or num_classes
    if count is None:
        raise UserError(f"{file} does not tell how many classes {name} has: give num_classes")
    network = fit(listed.build(count), tensors, file, f"segkd:{name}", preprocess)
    _check_preprocess(tensors, file, preprocess)
    return network


def _check_preprocess(tensors: Mapping[str, Any], file: Path, preprocess: Preprocess | None) -> None:
    """Files of segkd hold their preprocessing; without it, it must be stated."""
    if preprocess is None and not any(key.startswith(PREPROCESS) for key in tensors):
        raise UserError(
            f"{file} does not say its preprocessing: give preprocess=dict(mean=..., std=..., scale=1/255, "
            "channels='RGB')"
        )


def _weights(folder: Path) -> Path:
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise UserError(f"{folder} holds no trained student yet: none of {', '.join(WEIGHTS)}")
    return found


def _student(folder: Path, file: Path, preprocess: Preprocess | None) -> Network:
    """The student of a run's config, with a file's weights and the class names of the run's data."""
    from segkd.training.configfile import load_config

    if file.name == STATE:
        raise UserError(f"{file} is a run's state, to resume from; the student's weights are {', '.join(WEIGHTS)}")
    cfg = load_config(folder)
    made_of = cfg["model"].get("student", cfg["model"].get("network"))
    if isinstance(made_of, Mapping):  # its weights are the file's, not those it began with
        made_of = {key: value for key, value in made_of.items() if key not in ("weights", "pretrained", "init")}
    network = NETWORKS.build(made_of)
    if not isinstance(network, nn.Module):
        raise UserError(f"the config of {folder} names no network")
    fit(network, read_state_dict(file), file, preprocess=preprocess)
    network.class_names = _class_names(cfg)
    return network


def _class_names(cfg: Mapping[str, Any]) -> list[str] | None:
    """The names of the run's classes; None where only its data could tell, and that is not here."""
    from segkd.training.build import class_names

    try:
        return class_names(cfg)[0]
    except UserError:
        return None
