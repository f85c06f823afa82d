"""Files in OpenVINO on CPUs: its own (.xml beside .bin), and float ONNX files; needs the extra "openvino"."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from segkd.deploy.graphs import signed_activations
from segkd.deploy.runtimes import LOGITS, METADATA_KEY, Runtime, bands_of, fed, size_of
from segkd.errors import UserError
from segkd.files import existing_file

PRECISIONS = ("f32", "bf16")
KEPT_SHAPES = 4  # compiled graphs of one file


def import_extra(name: str) -> Any:
    """A module of the extra; where it is missing, a UserError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed: pip install 'segkd[openvino]'") from error


def has_bf16() -> bool:
    """True on CPUs that compute bf16 in hardware."""
    return "BF16" in import_extra("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoRuntime(Runtime):
    """A file that segkd wrote, in OpenVINO on the CPU.

    The graph is compiled for each shape of images, as that is faster than for any; it keeps those of the last shapes.

    Args:
        path: .xml, or an .onnx file in float32 or with unsigned activations.
        precision: what float operations compute in, "f32", or "bf16" on CPUs that have it.

    Raises:
        UserError: no such file, one that segkd did not write, an int8 ONNX file with signed activations (OpenVINO
            computes those wrongly), bf16 on a CPU without it, OpenVINO missing.
    """

    def __init__(self, path: str | Path, threads: int = 2, resize: bool = False, precision: str = "f32") -> None:
        super().__init__(resize)
        self.path, self.threads, self.precision = Path(path), threads, precision
        openvino = import_extra("openvino")
        self.core = openvino.Core()
        if precision not in PRECISIONS:
            raise UserError(f"OpenVINO computes in {' or '.join(PRECISIONS)}, not in {precision!r}")
        if precision == "bf16" and not has_bf16():
            raise UserError("this CPU has no bf16 (AVX512-BF16 or AMX): OpenVINO would compute in float32")
        self.model = _read(self.core, self.path)
        self.metadata = _metadata(self.model, self.path)
        self.name = "openvino" if precision == "f32" else f"openvino {precision}"
        self.num_classes, self.channels = int(self.metadata["num_classes"]), bands_of(self.metadata)
        self.size = size_of(self.metadata)
        self.output = self.metadata.get("output", LOGITS)
        files = {self.path, self.path.with_suffix(".bin")} if self.path.suffix == ".xml" else {self.path}
        self.file_size = sum(file.stat().st_size for file in files)
        self.device = torch.device("cpu")
        self._compiled: dict[tuple[int, ...], Any] = {}  # by shape, the one used last at the end

    def _run(self, image: Tensor) -> Tensor:
        given = fed(image, self.metadata)
        compiled = self._compiled.pop(given.shape, None) or self.compile(given.shape)
        self._compiled[given.shape] = compiled
        if len(self._compiled) > KEPT_SHAPES:
            del self._compiled[next(iter(self._compiled))]
        return torch.from_numpy(next(iter(compiled(given).values())).copy())

    def compile(self, shape: tuple[int, ...]) -> Any:
        """OpenVINO's compiled model for inputs of a shape (N, 3, H, W)."""
        model = self.model.clone()
        model.reshape(list(shape))
        return self.core.compile_model(model, "CPU", _options(self.threads, self.precision))

    def again(self) -> OpenVinoRuntime:
        return OpenVinoRuntime(self.path, self.threads, self.resize, self.precision)

    def __reduce__(self) -> tuple[Any, ...]:  # a compiled model cannot be pickled
        return type(self), (self.path, self.threads, self.resize, self.precision)


def _options(threads: int, precision: str) -> dict[str, Any]:
    return {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}


def _read(core: Any, path: Path) -> Any:
    existing_file(path)
    if path.suffix == ".xml":
        existing_file(path.with_suffix(".bin"), "weights of the .xml file")
    if path.suffix == ".onnx" and signed_activations(onnx.load(str(path))):
        raise UserError(
            f"{path} has signed int8 activations, with which OpenVINO computes wrongly; make its own int8 file: "
            "segkd quantize --route openvino"
        )
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise UserError(f"OpenVINO cannot read {path}: {str(error).splitlines()[-1].strip()}") from error


def _metadata(model: Any, path: Path) -> Mapping[str, Any]:
    """What the file says about itself: in an .xml under rt_info, in an .onnx as everywhere."""
    if path.suffix == ".onnx":
        text = {item.key: item.value for item in onnx.load(str(path)).metadata_props}.get(METADATA_KEY)
    else:
        text = model.get_rt_info([METADATA_KEY]).value if model.has_rt_info([METADATA_KEY]) else None
    if text is None:
        raise UserError(f"{path} was not written by segkd (it has no {METADATA_KEY!r} metadata); use `segkd export`")
    content: dict[str, Any] = json.loads(text)
    return content
