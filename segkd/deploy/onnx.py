"""A network as one ONNX file, for one image size or any, written only if ONNX Runtime computes the same as torch."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

import segkd
from segkd.deploy.fusing import fuse
from segkd.deploy.graphs import note
from segkd.deploy.parity import ExportError, Parity, check_parity, first_difference, random_images
from segkd.deploy.pooling import MatrixPooling
from segkd.deploy.runtimes import METADATA_KEY, OnnxRuntime, fed
from segkd.deploy.trained import KEY, trained_in
from segkd.errors import UserError
from segkd.fakequant import detach
from segkd.files import replacing
from segkd.images import channels_of

OPSET = 20
OPSETS = range(18, 24)  # that torch's exporter writes


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        size: (H, W) in pixels; None of a file that takes images of any size.
        batch: how many images a call takes; None for any number.
        opset: as the file has it.
        parity: the comparisons with torch, at the batches and sizes of ``compared``.
        compared: (N, H, W) of each.
        fused: how many branches and BatchNorms were merged into one convolution each before.
        ops: the graph's nodes by operator.
        trained: the route for whose int8 file the network was trained, if it was (`segkd.deploy.trained`).
    """

    path: str
    size: tuple[int, int] | None
    num_classes: int
    opset: int
    file_bytes: int
    parity: tuple[Parity, ...]
    ops: dict[str, int]
    batch: int | None = None
    compared: tuple[tuple[int, int, int], ...] = ()
    fused: int = 0
    trained: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Graph(nn.Module):
    """What is exported: image -> (preprocess ->) logits."""

    def __init__(self, network: nn.Module, include_preprocess: bool) -> None:
        super().__init__()
        self.network = network
        self.include_preprocess = include_preprocess

    def forward(self, image: Tensor) -> Tensor:
        x = self.network.preprocess(image) if self.include_preprocess else image  # type: ignore[operator]
        logits: Tensor = self.network(x)
        return logits


def export_onnx(
    network: nn.Module,
    path: str | Path,
    size: tuple[int, int],
    *,
    include_preprocess: bool = True,
    opset: int = OPSET,
    batch: int | None = None,
    any_size: bool = False,
    merge: bool = True,
    check_batches: Sequence[int] = (1, 3),
    class_names: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
    threads: int = 2,
) -> ExportReport:
    """Write ``network`` to ``path``: ``image`` (N, C, H, W) in, ``logits`` (N, K, H, W) out.

    A copy in eval mode on the CPU in float32 is exported; the network itself is not touched. Adaptive average pools
    become exact matrix products (`segkd.deploy.pooling`), branches one convolution (`segkd.deploy.fusing`).

    Args:
        network: module with ``preprocess`` (an `nn.Module` with buffers mean, std, scale, order) and ``num_classes``.
        size: (H, W) in pixels, for which the file is.
        include_preprocess: the file takes uint8 RGB images; else float32 images already preprocessed (the constants
            are then in the metadata).
        opset: 18 to 23; the report says which the file has.
        batch: how many images a call takes; any number unless given.
        any_size: the file takes images of any size. Networks that pool to a grid, or compute with sizes, are refused.
        merge: merge branches and BatchNorms first.
        check_batches: batch sizes at which the file is compared with the network, on images drawn from a fixed seed.
        class_names, extra: stored in the file's metadata, ``extra`` by its own keys (JSON values).

    Raises:
        ExportError: the exporter failed, or the file differs from the network by more than ``MAX_RELATIVE_DIFFERENCE``
            of the largest logit or in more than 1 - ``MIN_ARGMAX_AGREEMENT`` of the pixels (but for the share that
            the network declares ``unstable``), and is also further from the network in float64 than ``ALLOWANCE``
            times as far as the network in float32 is (untrained networks can enlarge rounding a thousandfold). No file
            is left; an earlier file at ``path`` stays. The message names the first operation that differs.
    """
    if opset not in OPSETS:
        raise UserError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}, which torch's exporter writes, got {opset}")
    network = copy.deepcopy(network)
    places = detach(network)
    plain = network.cpu().float().to(memory_format=torch.contiguous_format).eval()
    merged, fused = fuse(plain) if merge else (plain, 0)
    about = {**(extra or {}), **({} if batch is None else {"batch": batch})}
    metadata = metadata_of(plain, None if any_size else size, include_preprocess, class_names, about)
    program = _trace(Graph(merged, include_preprocess), size, opset, batch, any_size)
    model = program.model_proto
    _clean(model, metadata, batch)
    onnx.checker.check_model(model, full_check=True)
    images = list(_check_images(size, (batch,) if batch else check_batches, any_size, channels_of(plain)))
    trained = None
    if places is not None:
        trained = trained_in(plain, places.cpu(), model, images[0], fed(images[0], metadata))
        note(model, {KEY: trained.as_dict()})

    def explain(image: Tensor) -> str:
        given = image if include_preprocess else plain.preprocess(image)  # type: ignore[operator]
        return first_difference(program.exported_program, model, given)

    with replacing(path) as temporary:
        onnx.save_model(model, str(temporary))
        parity = check_parity(plain, OnnxRuntime(temporary, threads), images, explain)
        file_bytes = temporary.stat().st_size
    return ExportReport(
        path=str(path),
        size=None if any_size else size,
        num_classes=metadata["num_classes"],
        opset=next(item.version for item in model.opset_import if not item.domain),
        file_bytes=file_bytes,
        parity=parity,
        ops=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        batch=batch,
        compared=tuple((len(image), int(image.shape[2]), int(image.shape[3])) for image in images),
        fused=fused,
        trained=None if trained is None else trained.route,
    )


def _check_images(size: tuple[int, int], batches: Sequence[int], any_size: bool, channels: int) -> Iterator[Tensor]:
    """Images for the gate; a file for any size is tried at two other shapes, one of them odd."""
    height, width = size
    for count in batches:
        yield random_images(count, size, count, channels)
    if any_size:
        for number, other in enumerate(((height + 37, max(32, width - 15)), (max(32, width // 2), height + 64))):
            yield random_images(batches[0], other, 100 + number, channels)


def metadata_of(
    network: nn.Module,
    size: tuple[int, int] | None,
    inside: bool,
    class_names: Sequence[str] | None,
    extra: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What the file says about itself."""
    num_classes = int(network.num_classes)  # type: ignore[arg-type]
    if class_names is not None and len(class_names) != num_classes:
        raise UserError(f"{len(class_names)} class names for a network of {num_classes} classes")
    constants = {name: value.tolist() for name, value in network.preprocess.state_dict().items()}  # type: ignore[union-attr]
    own = {
        "version": segkd.__version__,
        "network": type(network).__name__,
        "num_classes": num_classes,
        "size": None if size is None else list(size),
        "preprocess": {"inside": inside, **constants},
    }
    if class_names is not None:
        own["class_names"] = list(class_names)
    return {**(extra or {}), **own}


def _trace(graph: Graph, size: tuple[int, int], opset: int, batch: int | None, any_size: bool) -> Any:
    """torch's ONNX program of a graph."""
    network = type(graph.network).__name__
    dtype = torch.uint8 if graph.include_preprocess else torch.float32
    example = torch.zeros(
        batch or 2, channels_of(graph.network), *size, dtype=dtype
    )  # a batch of 1 would be taken for a constant
    free = {} if batch else {0: torch.export.Dim("batch", min=1)}
    if any_size:
        free |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    try:
        with quiet():
            exact = MatrixPooling(graph, example).eval()
            if any_size and list(exact.buffers(recurse=False)):
                raise UserError("it pools to a grid, whose windows depend on the size")
            program = torch.onnx.export(
                exact,
                (example,),
                dynamo=True,
                external_data=False,
                verbose=False,
                opset_version=opset,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=(free,) if free else None,
            )
    except Exception as error:  # the exporter raises whatever its many stages raise
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if any_size:
            raise ExportError(
                f"cannot export {network} for images of any size: {reason}; export one file for each size"
            ) from error
        raise ExportError(
            f"cannot export {network} at {size[0]}x{size[1]}: {type(error).__name__}: {reason}"
        ) from error
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    return program


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what the exporter and the quantiser print, warn and log; errors are raised as ever."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _clean(model: onnx.ModelProto, metadata: Mapping[str, Any], batch: int | None) -> None:
    """Drop the exporter's notes (stack traces with this machine's paths: most of a small file) and add our own."""
    graph = model.graph
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for value in (graph.input[0], graph.output[0]) if batch is None else ():
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
