"""Whatever Python gives for a model: runs, networks, reports of exports, files; and the data that belongs to it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from segkd.datasets import DATASETS, SegmentationDataset
from segkd.deploy.formats import OPENERS, check_how, open_file, split_how
from segkd.deploy.onnx import ExportReport, export_onnx
from segkd.deploy.runtimes import LABELS, OnnxRuntime, Runtime, TorchRuntime
from segkd.errors import UserError
from segkd.face.run import Run
from segkd.files import existing_file, existing_onnx, writable_onnx
from segkd.models import NETWORKS, Network, load_weights
from segkd.training.build import build_dataset, class_names
from segkd.training.configfile import CONFIG, load_config
from segkd.workbench.deployment import QuantizeReport, export_run, quantize_network, quantize_weights
from segkd.workbench.making import SPLITS, data_section, network_config
from segkd.workbench.runs import crop_size, default_device, load_student
from segkd.workbench.tails import write_labels


def load_file(path: Path, network: Any = None) -> Run | Network | OnnxRuntime:
    """See ``segkd.load``."""
    if path.is_dir():
        return Run(path, _config(path, network))
    if existing_file(path).suffix == ".onnx":
        return OnnxRuntime(path)
    if (path.parent / CONFIG).is_file():
        return load_student(_config(path.parent, network), path)
    if not isinstance(network, nn.Module | Mapping):
        raise UserError(
            f"{path} is in no run folder: say whose weights these are, network=dict(type=..., num_classes=...) or a "
            "network"
        )
    built = NETWORKS.build(network)
    load_weights(built, path)
    return built.eval()


def _config(folder: Path, network: Any) -> dict[str, Any]:
    """The config of a run folder, with a network in the place of the one that it could not hold."""
    cfg = load_config(folder)
    if network is not None:
        key = "student" if "student" in cfg["model"] else "network"
        given = network_config(network, len(class_names(cfg)[0]))
        cfg["model"] = {**cfg["model"], key: given}
    return cfg


def runtimes(models: Any, threads: int, resize: bool = False) -> dict[str, Runtime]:
    """Each of one model, a list, or {name: model}, by a name of its own."""
    return {name: runtime(model, threads, resize) for name, model in _named(models)}


def sources(models: Any, threads: int) -> dict[str, Runtime | Callable[[], Runtime]]:
    """Each as what another process can open, by the names of ``runtimes``: a file's opener, or what is here already."""
    return {name: _source(model, threads) for name, model in _named(models)}


def _source(model: Any, threads: int) -> Runtime | Callable[[], Runtime]:
    path = None if isinstance(model, Runtime) else getattr(model, "path", model)
    if isinstance(path, str | Path) and split_how(path)[0].suffix in OPENERS:
        existing_file(check_how(path)[0])
        return partial(open_file, path, threads)
    return runtime(model, threads)


def _named(models: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(models, Mapping):
        yield from models.items()
        return
    taken: list[str] = []
    for model in models if isinstance(models, list | tuple) else [models]:
        name = _name(model)
        taken.append(name)
        yield name if taken.count(name) == 1 else f"{name} {taken.count(name)}", model


def _name(model: Any) -> str:
    if isinstance(model, Run):
        return model.folder.name
    file = getattr(model, "path", model)
    return Path(file).name if isinstance(file, str | Path) else type(model).__name__


def runtime(model: Any, threads: int = 2, resize: bool = False) -> Runtime:
    """Something that predicts, of a Run, a network, a file, or the report on one."""
    if isinstance(model, Runtime):
        return model
    if isinstance(model, nn.Module):
        return TorchRuntime(model.to(default_device()), threads)
    path = getattr(model, "path", model)
    if isinstance(path, str | Path) and split_how(path)[0].suffix in OPENERS:
        return open_file(path, threads, resize)
    run = load_file(Path(path)) if isinstance(path, str | Path) else model
    if isinstance(run, Run):
        found = TorchRuntime(run.student.to(default_device()), threads)
        names, palette = class_names(run.config)
        found.metadata = {"class_names": names, "palette": palette}
        return found
    if isinstance(run, nn.Module):
        return runtime(run, threads)
    raise UserError(f"a model is a run, a network, or a file (.onnx, .pth, run folder), got {model!r}")


def _run_of(models: Any) -> Run | None:
    """The first run among models."""
    for _, model in _named(models):
        if isinstance(model, Run):
            return model
        path = Path(model) if isinstance(model, str | Path) else None
        folder = path if path is None or path.is_dir() else path.parent
        if folder is not None and (folder / CONFIG).is_file():
            return Run(folder, load_config(folder))
    return None


def dataset_of(models: Any, data: Any, root: str | Path | None, split: str) -> tuple[SegmentationDataset, int]:
    """The data set of one split, as given or of the first run, and how many processes read it."""
    if split not in SPLITS:
        raise UserError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    if isinstance(data, SegmentationDataset):
        return data, 0
    run = _run_of(data if isinstance(data, Run) else models)
    if (data is None or isinstance(data, Run)) and run is not None:
        cfg = _at_root(run.config, root)
        return build_dataset(cfg, split), cfg["data"].get("workers", 0)
    section = data_section(data, root, size=(32, 32))
    own = section.get(split)
    if own is None:
        raise UserError(f"there is no {split} data set: give data={{{split!r}: ...}}")
    return DATASETS.build({**section["dataset"], **own} if isinstance(own, Mapping) else own), 0


def crop_of(models: Any) -> tuple[int, int]:
    """The size (H, W) of the first run's training crops."""
    run = _run_of(models)
    if run is None:
        raise UserError("say for images of which size: size=(H, W)")
    return crop_size(run.config)


def export_any(model: Any, size: tuple[int, int] | None, out: str | Path | None, **options: Any) -> ExportReport:
    """See ``segkd.export``."""
    if isinstance(model, str | Path) and Path(model).is_dir():
        model = load_file(Path(model))
    size = size or crop_of(model)
    if isinstance(model, nn.Module):
        if out is None:
            raise UserError("say which file to write the network to: out=FILE.onnx")
        return export_onnx(model, writable_onnx(out), size, **options)
    run, weights = _run_of(model), model.weights() if isinstance(model, Run) else model
    if run is None or not isinstance(weights, str | Path):
        raise UserError(f"what is exported is a run, weights in a run folder, or a network, got {model!r}")
    return export_run(run.config, weights, size, out, **options)


def export_labels(
    model: Any,
    size: tuple[int, int] | None,
    out: str | Path | None,
    output: str,
    tail: str,
    scored: Mapping[str, Any],
    options: Mapping[str, Any],
) -> ExportReport:
    """See ``segkd.export``; ``scored`` says on what tails are scored (`segkd.workbench.tails.write_labels`)."""
    if output != LABELS:
        raise UserError(f"a file gives 'logits' or 'labels', not {output!r}")
    if options["any_size"]:
        raise UserError("labels are made by a file for one size: leave any_size out")
    size = size or crop_of(model)
    if out is None:
        run = _run_of(model)
        if run is None:
            raise UserError("say which file to write the network to: out=FILE.onnx")
        out = run.folder / f"student_{size[0]}x{size[1]}_labels.onnx"
    out = writable_onnx(out)
    with tempfile.TemporaryDirectory(prefix="segkd-") as folder:
        report = export_any(model, size, Path(folder) / "logits.onnx", **options)
        write_labels(report.path, out, tail, **scored)
    return replace(report, path=str(out), file_bytes=out.stat().st_size)


def config_and_weights(model: Any, root: str | Path | None = None) -> tuple[dict[str, Any], Path]:
    """The config, and the file of the student's best weights, of a run, its folder, or of weights in it."""
    run = _run_of(model)
    if run is None:
        raise UserError(f"what is shipped is a run, its folder, or weights in it, got {model!r}")
    path = Path(model) if isinstance(model, str | Path) else run.folder
    weights = run.weights() if path.is_dir() else path
    return _at_root(run.config, root), existing_file(weights, "weights file")


def _at_root(cfg: dict[str, Any], root: str | Path | None) -> dict[str, Any]:
    """The config with another root folder of its data set, if one is given."""
    if root is None:
        return cfg
    return {**cfg, "data": {**cfg["data"], "dataset": {**cfg["data"]["dataset"], "root": str(root)}}}


def quantize_for_phones(
    model: Any, dataset: SegmentationDataset, size: tuple[int, int] | None, out: str | Path | None, **shared: Any
) -> QuantizeReport:
    """See ``segkd.quantize``, of the route "executorch"."""
    if isinstance(model, str | Path) and Path(model).is_dir():
        model = load_file(Path(model))
    size = size or crop_of(model)
    if isinstance(model, Network):
        if out is None:
            raise UserError("say which file to write the network to: out=FILE.pte")
        return quantize_network(model, dataset, out, size, class_names=dataset.class_names, **shared)
    run, weights = _run_of(model), model.weights() if isinstance(model, Run) else model
    if run is None or not isinstance(weights, str | Path):
        raise UserError(f"executorch makes its file of a run, weights in a run folder, or a network, not of {model!r}")
    return quantize_weights(run.config, weights, size, out, **shared)


def onnx_file(model: Any) -> Path:
    """A float32 ONNX file: itself, that of a report, or a run's, exported now."""
    path = getattr(model, "path", model)
    if isinstance(path, str | Path) and Path(path).suffix == ".onnx":
        return existing_onnx(path)
    return Path(export_any(model, None, None).path)
