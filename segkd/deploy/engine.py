"""A TensorRT engine of an ONNX file, built where TensorRT is, on the GPU for which it is to be."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from segkd.deploy.runtimes import METADATA_KEY
from segkd.deploy.tensorrt import problems_of
from segkd.errors import UserError, first_line
from segkd.files import existing_onnx, replacing, writable_file

SUFFIX = ".engine"
MIB = 2**20


class EngineReport(NamedTuple):
    """What was built.

    Attributes:
        path: the engine's file.
        version: TensorRT's, by which alone it can be read.
        batches: fewest, usual and most images a call.
        int8: True for an int8 engine.
        file_bytes: its size.
    """

    path: str
    version: str
    batches: tuple[int, int, int]
    int8: bool
    file_bytes: int


def build_engine(
    source: str | Path,
    target: str | Path | None = None,
    *,
    batch: int = 1,
    half: bool = True,
    workspace_mib: int = 1024,
) -> EngineReport:
    """Build the engine of a float file, or of one that ``segkd quantize --route tensorrt`` made.

    Args:
        source: the ONNX file.
        target: the engine's file (default: beside it, named .engine).
        batch: most images a call, where the file takes any number.
        half: let TensorRT compute in float16 what is not int8; from version 11 on it computes as the file says.
        workspace_mib: memory that layers may use beside their inputs and outputs.

    Raises:
        UserError: TensorRT is not installed, cannot read the file, or has no GPU; a file for images of any size, or an
            int8 file that is not as TensorRT wants it.
    """
    path = existing_onnx(source)
    target = writable_file(target or path.with_suffix(SUFFIX))
    model = onnx.load(str(path))
    about = _about(model, path)
    try:
        tensorrt = importlib.import_module("tensorrt")
    except ImportError as error:
        raise UserError("tensorrt is not installed: pip install tensorrt, on a machine with an NVIDIA GPU") from error
    fixed = about.get("batch")
    batches = (fixed, fixed, fixed) if fixed else (1, 1, batch)
    int8 = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    plan = _plan(tensorrt, path, (3, *about["size"]), batches, int8, half, workspace_mib)
    with replacing(target) as temporary:
        temporary.write_bytes(plan)
    return EngineReport(str(target), str(tensorrt.__version__), batches, int8, target.stat().st_size)


def _about(model: onnx.ModelProto, path: Path) -> dict[str, Any]:
    """What the file says of itself; a UserError for one that TensorRT is not to have."""
    text = {item.key: item.value for item in model.metadata_props}.get(METADATA_KEY)
    if text is None:
        raise UserError(f"{path} was not written by segkd (it has no {METADATA_KEY!r} metadata); use `segkd export`")
    about: dict[str, Any] = json.loads(text)
    if about["size"] is None:
        raise UserError(f"{path} takes images of any size; export one for one size: segkd export --size HxW")
    if problem := next(problems_of(model), None):
        raise UserError(f"{path} is not for TensorRT ({problem}): segkd quantize --route tensorrt makes one")
    return about


def _plan(
    tensorrt: Any, path: Path, image: tuple[int, ...], batches: tuple[int, int, int], int8: bool, half: bool, mib: int
) -> bytes:
    """The serialised engine."""
    errors: list[str] = []
    builder = _builder(tensorrt, _logger(tensorrt, errors))
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, _logger(tensorrt, errors))
    if not parser.parse_from_file(str(path)):
        raise UserError(f"TensorRT cannot read {path}: {first_line(Exception(parser.get_error(0).desc()))}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, mib * MIB)
    for name, wanted in (("INT8", int8), ("FP16", half)):  # flags that TensorRT 11 has no more: the file says it all
        flag = getattr(tensorrt.BuilderFlag, name, None)
        if wanted and flag is not None:
            config.set_flag(flag)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((count, *image) for count in batches))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UserError(f"TensorRT built no engine of {path}: {errors[-1] if errors else 'it does not say why'}")
    return bytes(plan)


def _builder(tensorrt: Any, logger: Any) -> Any:
    try:
        return tensorrt.Builder(logger)
    except Exception as error:  # its binding's own, where no GPU or driver is found
        raise UserError(f"TensorRT cannot begin: {first_line(error)}; it needs an NVIDIA GPU") from error


def _logger(tensorrt: Any, errors: list[str]) -> Any:
    """A logger that keeps the errors' texts."""
    severe = (tensorrt.ILogger.ERROR, tensorrt.ILogger.INTERNAL_ERROR)

    class Kept(tensorrt.ILogger):
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in severe:
                errors.append(str(text).splitlines()[0])

    return Kept()
