"""A network as an int8 file for phones (.pte): quantised in torch (PT2E) for XNNPACK; needs the extra "executorch"."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segkd.deploy.executorch import ExecutorchRuntime, import_extra, quiet_errors
from segkd.deploy.fusing import fuse
from segkd.deploy.onnx import Graph, metadata_of, quiet
from segkd.deploy.report import Images, QuantizeError, QuantizeReport, compare, digest, take_images
from segkd.deploy.runtimes import METADATA_KEY, TorchRuntime
from segkd.errors import UserError, first_line
from segkd.files import replacing

XNNPACK = "executorch.backends.xnnpack"
LAYERS = ("conv1d", "conv2d", "conv_transpose2d", "convolution", "linear", "matmul", "bmm")
OP_TYPES = ("all", "conv")
MIN_STEP = 2**-20  # of a rounding; ExecuTorch's own least, 2**-12, makes zeros of the small values of some networks
MIN_SAME = 0.97  # of the pixels that must have the class that the rounded network in torch gives


def quantize_executorch(
    network: nn.Module,
    target: str | Path,
    size: tuple[int, int],
    calibration: Iterable[Images],
    *,
    class_names: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
    op_types: str | None = "all",
    max_images: int = 32,
    threads: int = 2,
) -> QuantizeReport:
    """Quantise a network into ``target``: one image (1, 3, H, W) uint8 RGB in, logits out, preprocessing inside.

    Activations are signed, with a zero point; weights symmetric, per channel. Ranges are those of ExecuTorch's own
    histograms. What XNNPACK does not take runs in ExecuTorch's portable kernels.

    Args:
        network: as in `segkd.deploy.onnx.export_onnx`; it is not touched.
        size: (H, W) in pixels.
        calibration: batches (N, 3, H, W) uint8 RGB of training images; the first ``max_images`` are used.
        op_types: "all" (default) that XNNPACK has in int8, sums and concatenations too; or "conv", convolutions and
            products alone, which costs less accuracy.

    Raises:
        UserError: ExecuTorch missing, no calibration image, one of another size, unknown ``op_types``.
        QuantizeError: it cannot be exported, or the file gives other classes than the rounded network does in torch.
            Nothing is left at ``target`` but what was there.
    """
    op_types = op_types or "all"
    if op_types not in OP_TYPES:
        raise UserError(f"unknown op_types {op_types!r} of executorch; choose from {', '.join(OP_TYPES)}")
    with quiet():
        import_extra(f"{XNNPACK}.quantizer.xnnpack_quantizer")
    plain, _ = fuse(copy.deepcopy(network).cpu().float().eval())
    reference = TorchRuntime(plain, threads)
    reference.size = size
    images = take_images(calibration, max_images, reference, "the file")
    about = {"route": "executorch", "method": "histogram", "images": len(images), "calibration": digest(images)}
    metadata = {**metadata_of(plain, size, True, class_names, extra), "quantization": about}
    try:
        with quiet(), quiet_errors(), torch.no_grad():
            rounded = _rounded(Graph(plain, True).eval(), images, op_types)
            content = _lowered(rounded, images[0], metadata)
    except Exception as error:  # torch.export, PT2E and ExecuTorch raise whatever their stages raise
        raise QuantizeError(f"cannot make {target}: {type(error).__name__}: {first_line(error)}") from error
    with replacing(target) as temporary:
        temporary.write_bytes(content)
        runtime = ExecutorchRuntime(temporary, threads)
        same = _agreement(rounded, runtime, images)
        if same < MIN_SAME:
            raise QuantizeError(
                f"{target} gives the class of the rounded network in torch at {100 * same:.1f} % of the pixels alone"
            )
        sqnr, agreement = compare(reference, runtime, images)
    int8, floats = count_rounded(rounded)
    return QuantizeReport(
        path=str(target),
        method="histogram",
        op_types=op_types,
        float_bytes=reference.file_size,
        int8_bytes=Path(target).stat().st_size,
        images=len(images),
        sqnr_db=sqnr,
        argmax_agreement=agreement,
        int8_ops=int8,
        float_ops=floats,
        ops=dict(Counter(_name(node) for node in rounded.graph.nodes if node.op == "call_function").most_common()),
        route="executorch",
    )


def _rounded(graph: nn.Module, images: Sequence[Tensor], op_types: str) -> Any:
    """The graph with roundings, whose ranges are those of the images."""
    pt2e = import_extra("torchao.quantization.pt2e.quantize_pt2e")
    exported = torch.export.export(graph, (images[0],)).module()
    watched = pt2e.prepare_pt2e(exported, _quantizer(op_types))
    for image in images:
        watched(image)
    return pt2e.convert_pt2e(watched)


def _quantizer(op_types: str) -> Any:
    """XNNPACK's quantiser of these operators."""
    xnnpack = import_extra(f"{XNNPACK}.quantizer.xnnpack_quantizer")
    chosen = _with_small_steps(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
    quantizer = xnnpack.XNNPACKQuantizer()
    if op_types == "all":
        return quantizer.set_global(chosen)
    for operator in (*xnnpack.CONV_TARGETS, *xnnpack.CONV_TRANSPOSE_TARGETS, *xnnpack.LINEAR_TARGETS):
        quantizer.set_operator_type(operator, chosen)
    return quantizer


def _with_small_steps(chosen: Any) -> Any:
    """A quantiser's configuration, whose observers allow steps down to MIN_STEP."""
    observers = import_extra("torchao.quantization.pt2e.observer")
    histogram = observers.HistogramObserver.with_args(eps=MIN_STEP)
    activation = replace(chosen.input_activation, observer_or_fake_quant_ctr=histogram)
    range_of_each = observers.PerChannelMinMaxObserver.with_args(eps=MIN_STEP)
    weight = replace(chosen.weight, observer_or_fake_quant_ctr=range_of_each)
    return replace(chosen, input_activation=activation, output_activation=activation, weight=weight)


def _lowered(rounded: Any, image: Tensor, metadata: Mapping[str, Any]) -> bytes:
    """The content of a .pte file."""
    partitioner = import_extra(f"{XNNPACK}.partition.xnnpack_partitioner").XnnpackPartitioner()
    text = torch.tensor(list(json.dumps(metadata).encode()), dtype=torch.uint8)
    program = import_extra("executorch.exir").to_edge_transform_and_lower(
        torch.export.export(rounded, (image,)), partitioner=[partitioner], constant_methods={METADATA_KEY: text}
    )
    return bytes(program.to_executorch().buffer)


def _agreement(rounded: Any, runtime: ExecutorchRuntime, images: Sequence[Tensor]) -> float:
    """The share of pixels with the class that the rounded graph gives in torch."""
    with torch.no_grad():
        same = [(rounded(image).argmax(1) == runtime.labels(image)).double().mean() for image in images[:2]]
    return float(torch.stack(same).mean())


def count_rounded(rounded: Any) -> tuple[int, int]:
    """How many convolutions and products of a graph have roundings before both operands, and how many have not."""
    layers = [node for node in rounded.graph.nodes if _name(node) in LAYERS]
    int8 = sum(all(_name(value).startswith("dequantize") for value in node.args[:2]) for node in layers)
    return int8, len(layers) - int8


def _name(node: Any) -> str:
    """The operator of a node: conv2d, dequantize_per_tensor."""
    return str(getattr(node.target, "__name__", node.target)).partition(".")[0] if node.op == "call_function" else ""
