"""Runs and configs opened, and what they name: the student with its weights, the teacher, files to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from segkd.datasets import DATASETS
from segkd.datasets.answers import read_about
from segkd.distiller import build_teacher
from segkd.errors import UserError
from segkd.files import existing_file, named
from segkd.models import Network, load_weights
from segkd.training.build import answers_of, build_student
from segkd.training.configfile import CONFIG, find_config, load_config
from segkd.training.state import BEST, LAST, STATE
from segkd.workbench import making
from segkd.workbench.zoo import INT8, WEIGHTS, resolve_release

if TYPE_CHECKING:  # ONNX Runtime is imported where a model is opened: a training needs none
    from segkd.deploy.runtimes import Runtime

UNTRAINED = "student, untrained"


def open_run(
    source: str | Path,
    data: Any = None,
    root: str | Path | None = None,
    overrides: Sequence[str] = (),
    **words: Any,
) -> dict[str, Any]:
    """The config of a run folder, a config file or a released network, with ``key.sub=value`` overrides.

    Args:
        data, root: another data set, or another root folder of the config's (see ``making.open_config``).
        words: see ``segkd.training.overrides.WORDS``.
    """
    source = resolve_release(source, CONFIG)
    if isinstance(data, str | Path) and str(data) not in DATASETS.names():
        data, root = None, data
    if data is None:
        return load_config(source, overrides, root=None if root is None else str(root), **words)
    return making.complete(making.open_config(source, data, root), None, overrides, words)


def default_folder(source: str | Path) -> Path:
    """The folder of a run unless told otherwise: ``work/<config name>``, or the run folder that gave the config."""
    return Path(source) if Path(source).is_dir() else Path("work") / find_config(source).stem


def crop_size(cfg: Mapping[str, Any]) -> tuple[int, int]:
    """The size (H, W) of the config's training crops."""
    size = cfg["data"]["augment"].get("crop_size")
    if size is None:
        raise UserError("the config has no data.augment.crop_size; give the image size with --size HxW")
    return int(size[0]), int(size[1])


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def students_of(source: str | Path | None) -> list[Path]:
    """The weights of a run folder's best student; of a released network, by name or folder, weights and int8 file."""
    if found := _students_in(source):
        return found
    raise UserError(f"no FILE named, and {source or '--student'} is no run folder with a {BEST}: name weights or .onnx")


def weights_of(source: str | Path | None) -> Path:
    """The weights file among ``students_of`` a run folder or a released network."""
    for file in _students_in(source):
        if file.suffix == ".pth":
            return file
    where = f"{source} has no {BEST}: " if source is not None else ""
    raise UserError(f"{where}name the student's weights: --weights FILE")


def _students_in(source: str | Path | None) -> list[Path]:
    if source is None:
        return []
    config = Path(resolve_release(source, CONFIG))
    folder = config.parent if config.name == CONFIG else config
    in_run, released = ([folder / name for name in names] for names in ((BEST,), (WEIGHTS, INT8)))
    return [file for file in in_run if file.is_file()] or [file for file in released if file.is_file()]


def load_student(cfg: Mapping[str, Any], weights: str | Path) -> Network:
    """The config's student with the weights of a file, on the CPU."""
    path = existing_file(weights, "weights file")
    if path.name == STATE:
        raise UserError(
            f"{path} is a run's state, to resume from; the student's weights are {LAST} and {BEST} beside it"
        )
    network = build_student(cfg)
    load_weights(network, path)
    return network


def model_source(
    cfg: Mapping[str, Any], file: str | Path, threads: int = 2, resize: bool = False
) -> Runtime | Callable[[], Runtime]:
    """A file that predicts (.onnx, .xml) as what opens it, or a student weights file (.pth) in the config's student.

    Arguments as in ``open_model``; what can be wrong with the file's name is found here.
    """
    from segkd.deploy.formats import OPENERS, check_how, open_file, split_how
    from segkd.deploy.runtimes import TorchRuntime

    path, how = split_how(file)
    existing_file(path)
    if path.suffix in OPENERS:
        check_how(file)
        return partial(open_file, file, threads, resize)
    if path.suffix not in (".pth", ".pt"):
        raise UserError(f"{path} is neither weights (.pth) nor a file that predicts ({', '.join(OPENERS)})")
    return TorchRuntime(load_student(cfg, path).to(default_device()), threads, how.split("+") if how else ())


def open_model(cfg: Mapping[str, Any], file: str | Path, threads: int = 2, resize: bool = False) -> Runtime:
    """A file that predicts (.onnx, .xml) as it is, or a student weights file (.pth) in the config's student.

    Args:
        file: the file, ``@HOW`` behind it where it is to run otherwise than usual (`segkd.deploy.formats`).
        threads: CPU threads.
        resize: let an ONNX file take images of other sizes, resized.
    """
    source = model_source(cfg, file, threads, resize)
    return source() if callable(source) else source


def model_sources(
    cfg: Mapping[str, Any], files: Sequence[str | Path], threads: int = 2, resize: bool = False
) -> dict[str, Runtime | Callable[[], Runtime]]:
    """What opens each file, by the names of ``open_models``; for `segkd.workbench.isolation`."""
    from segkd.deploy.runtimes import TorchRuntime

    if not files:
        return {UNTRAINED: TorchRuntime(build_student(cfg).to(default_device()), threads=threads)}
    return {name: model_source(cfg, file, threads, resize) for name, file in named(files).items()}


def open_models(
    cfg: Mapping[str, Any], files: Sequence[str | Path], threads: int = 2, resize: bool = False
) -> dict[str, Runtime]:
    """Each file by the shortest name that tells it from the others; without any, the config's student as it begins."""
    sources = model_sources(cfg, files, threads, resize)
    return {name: source() if callable(source) else source for name, source in sources.items()}


def open_teacher(cfg: Mapping[str, Any], threads: int = 2) -> Runtime:
    """The teacher of a distillation's config, with its weights."""
    from segkd.deploy.runtimes import TorchRuntime

    teacher = cfg["model"].get("teacher")
    if teacher is None:
        raise UserError("the config has no teacher: it trains a network alone")
    folder = answers_of(cfg["model"])
    if folder is not None:  # answers to the training's images: for others, the network that gave them
        teacher = read_about(folder)["teacher"]
        if teacher is None:
            raise UserError(f"{folder} does not say how its teacher is made: name the teacher itself")
    channels = build_student(cfg).channels if cfg["model"].get("teacher_bands") else None
    return TorchRuntime(build_teacher(teacher).to(default_device()), threads, channels=channels)
