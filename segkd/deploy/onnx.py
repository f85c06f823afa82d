"""A network as one ONNX file for one image size, written only if ONNX Runtime computes the same as torch."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import segkd
from segkd.deploy.pooling import MatrixPooling
from segkd.deploy.runtimes import METADATA_KEY, OnnxRuntime
from segkd.errors import UserError
from segkd.files import replacing

MAX_RELATIVE_DIFFERENCE = 1e-4
MIN_ARGMAX_AGREEMENT = 0.9999
MAX_ROUNDING = 1e-3  # a network that float32 alone moves further than this gets no allowance for it
ALLOWANCE = 4.0
OPSET = 20


class ExportError(UserError):
    """The network cannot be exported, or its file does not compute what the network does."""


@dataclass(frozen=True)
class Parity:
    """The comparison of a file with the network it came from.

    Attributes:
        batch: number of images.
        relative_difference: max |file - network| / max |network| over the logits of the compared pixels.
        argmax_agreement: share of them whose class is the same.
        compared: share of all pixels; below 1, those that differ most are left out (``Network.unstable``).
        rounding: the network's own relative difference from itself in float64; measured only where the file differs by
            more than is allowed without it, else 0.
    """

    batch: int
    relative_difference: float
    argmax_agreement: float
    compared: float = 1.0
    rounding: float = 0.0


@dataclass(frozen=True)
class ExportReport:
    """What was written. ``size`` is (H, W) in pixels, ``ops`` counts the graph's nodes by operator."""

    path: str
    size: tuple[int, int]
    num_classes: int
    opset: int
    file_bytes: int
    parity: tuple[Parity, ...]
    ops: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Graph(nn.Module):
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
    check_batches: Sequence[int] = (1, 3),
    class_names: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
    threads: int = 2,
) -> ExportReport:
    """Write ``network`` to ``path``: ``image`` (N, 3, H, W) in, ``logits`` (N, K, H, W) out; N is free, H and W fixed.

    A copy in eval mode on the CPU in float32 is exported; the network itself is not touched. Adaptive average pools
    become exact matrix products (`segkd.deploy.pooling`).

    Args:
        network: module with ``preprocess`` (an `nn.Module` with buffers mean, std, scale, order) and ``num_classes``.
        size: (H, W) in pixels.
        include_preprocess: the file takes uint8 RGB images; else float32 images already preprocessed (the constants
            are then in the metadata).
        check_batches: batch sizes at which the file is compared with the network, on images drawn from a fixed seed.
        class_names, extra: stored in the file's metadata, ``extra`` by its own keys (JSON values).

    Raises:
        ExportError: the exporter failed, or the file differs from the network by more than ``MAX_RELATIVE_DIFFERENCE``
            of the largest logit or in more than 1 - ``MIN_ARGMAX_AGREEMENT`` of the pixels (but for the share that
            the network declares ``unstable``), and is also further from the network in float64 than ``ALLOWANCE``
            times as far as the network in float32 is (untrained networks can enlarge rounding a thousandfold). No file
            is left; an earlier file at ``path`` stays.
    """
    plain = copy.deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format).eval()
    metadata = _metadata(plain, size, include_preprocess, class_names, extra)
    model = _trace(_Graph(plain, include_preprocess), size, opset)
    _clean(model, metadata)
    with replacing(path) as temporary:
        onnx.save_model(model, str(temporary))
        parity = _check(plain, OnnxRuntime(temporary, threads), size, check_batches)
        file_bytes = temporary.stat().st_size
    ops = dict(Counter(node.op_type for node in model.graph.node).most_common())
    return ExportReport(str(path), size, metadata["num_classes"], opset, file_bytes, parity, ops)


def _metadata(
    network: nn.Module,
    size: tuple[int, int],
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
        "size": list(size),
        "preprocess": {"inside": inside, **constants},
    }
    if class_names is not None:
        own["class_names"] = list(class_names)
    return {**(extra or {}), **own}


def _trace(graph: _Graph, size: tuple[int, int], opset: int) -> onnx.ModelProto:
    dtype = torch.uint8 if graph.include_preprocess else torch.float32
    example = torch.zeros(2, 3, *size, dtype=dtype)  # a batch of 1 would be taken for a constant
    try:
        with quiet():
            exact = MatrixPooling(graph, example).eval()
            program = torch.onnx.export(
                exact,
                (example,),
                dynamo=True,
                external_data=False,
                verbose=False,
                opset_version=opset,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            )
    except Exception as error:  # the exporter raises whatever its many stages raise
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        network = type(graph.network).__name__
        raise ExportError(
            f"cannot export {network} at {size[0]}x{size[1]}: {type(error).__name__}: {reason}"
        ) from error
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    return program.model_proto


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


def _clean(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    """Drop the exporter's notes (stack traces with this machine's paths: most of a small file) and add our own."""
    graph = model.graph
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})


def random_images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Images (count, 3, H, W) uint8: random blocks plus noise, so that coarse and fine structure both occur."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (count, 3, -(-size[0] // 16), -(-size[1] // 16)), generator=generator).float()
    noise = torch.randint(0, 64, (count, 3, *size), generator=generator)
    image = F.interpolate(blocks, size=size, mode="nearest-exact") * 0.75 + noise
    return image.round().clamp(0, 255).to(torch.uint8)


def compare_logits(expected: Tensor, got: Tensor, unstable: float = 0.0) -> Parity:
    """Parity of two logits (N, K, H, W); a shape that differs, or a value that is not finite, is no parity at all.

    Left out is the share ``unstable`` of the pixels, those that differ most.
    """
    if expected.shape != got.shape or not bool(got.isfinite().all()):
        return Parity(len(expected), float("inf"), 0.0)
    expected, got = expected.double(), got.double()
    difference, order = (got - expected).abs().amax(1).flatten().sort()
    kept = order[: len(order) - int(unstable * len(order))]
    same = (got.argmax(1) == expected.argmax(1)).flatten()[kept].double().mean()
    relative = difference[len(kept) - 1] / expected.abs().max()
    return Parity(len(expected), float(relative), float(same), len(kept) / len(order))


def _exact_logits(network: nn.Module, image: Tensor) -> Tensor:
    """The logits in float64, of the input that the network gets in float32."""
    with torch.no_grad():
        logits: Tensor = copy.deepcopy(network).double()(network.preprocess(image).double())  # type: ignore[operator]
    return logits


def _check(
    network: nn.Module, runtime: OnnxRuntime, size: tuple[int, int], batches: Sequence[int]
) -> tuple[Parity, ...]:
    """The parity gate."""
    results = []
    for batch in batches:
        image = random_images(batch, size, seed=batch)
        with torch.no_grad():
            expected = network(network.preprocess(image))  # type: ignore[operator]
        try:
            got = runtime.predict(image)
        except Exception as error:  # ONNX Runtime's exceptions share no base but this one
            raise ExportError(f"the exported file fails at batch {batch}: {str(error).splitlines()[0]}") from error
        unstable = getattr(network, "unstable", 0.0)
        parity = compare_logits(expected, got, unstable)
        if not (
            parity.relative_difference <= MAX_RELATIVE_DIFFERENCE and parity.argmax_agreement >= MIN_ARGMAX_AGREEMENT
        ):
            # does the file compute something else, or does the network enlarge what float32 loses?
            exact = _exact_logits(network, image)
            own, files = (compare_logits(exact, x, unstable).relative_difference for x in (expected, got))
            if own > MAX_ROUNDING or files > max(ALLOWANCE * own, MAX_RELATIVE_DIFFERENCE):
                raise ExportError(
                    f"the exported file differs from the network at batch {batch}: logits by "
                    f"{parity.relative_difference:.2e} of the largest (allowed {MAX_RELATIVE_DIFFERENCE:.0e}), equal "
                    f"classes in {parity.argmax_agreement:.6f} of the pixels (needed {MIN_ARGMAX_AGREEMENT}); "
                    "no file was written"
                )
            parity = replace(parity, rounding=own)
        results.append(parity)
    return tuple(results)
