"""The gate of an export: whether a file computes what its network does, and where it first does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.deploy.graphs import makers, values_of
from segkd.deploy.runtimes import OnnxRuntime
from segkd.errors import UserError

MAX_RELATIVE_DIFFERENCE = 1e-4
MIN_ARGMAX_AGREEMENT = 0.9999
MAX_ROUNDING = 1e-3  # a network that float32 alone moves further than this gets no allowance for it
ALLOWANCE = 4.0


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


def random_images(count: int, size: tuple[int, int], seed: int = 0, channels: int = 3) -> Tensor:
    """Images (count, C, H, W) uint8: random blocks plus noise, so that coarse and fine structure both occur."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 256, (count, channels, -(-size[0] // 16), -(-size[1] // 16)), generator=generator).float()
    noise = torch.randint(0, 64, (count, channels, *size), generator=generator)
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


def check_parity(
    network: nn.Module,
    runtime: OnnxRuntime,
    images: Iterable[Tensor],
    explain: Callable[[Tensor], str] = lambda image: "",
) -> tuple[Parity, ...]:
    """The gate: the parity of a file with its network, for each batch of images (N, 3, H, W) uint8.

    Args:
        network: in eval mode, on the CPU, in float32.
        explain: where the two first differ, as the end of the message.

    Raises:
        ExportError: the file fails, or computes something else than the network.
    """
    return tuple(_compared(network, runtime, image, explain) for image in images)


def _compared(network: nn.Module, runtime: OnnxRuntime, image: Tensor, explain: Callable[[Tensor], str]) -> Parity:
    batch, (height, width) = len(image), image.shape[-2:]
    with torch.no_grad():
        expected = network(network.preprocess(image))  # type: ignore[operator]
    try:
        got = runtime.predict(image)
    except Exception as error:  # ONNX Runtime's exceptions share no base but this one
        reason = str(error).splitlines()[0]
        raise ExportError(f"the exported file fails at batch {batch}, {height}x{width}: {reason}") from error
    unstable = getattr(network, "unstable", 0.0)
    parity = compare_logits(expected, got, unstable)
    if parity.relative_difference <= MAX_RELATIVE_DIFFERENCE and parity.argmax_agreement >= MIN_ARGMAX_AGREEMENT:
        return parity
    # does the file compute something else, or does the network enlarge what float32 loses?
    exact = _exact_logits(network, image)
    own, files = (compare_logits(exact, x, unstable).relative_difference for x in (expected, got))
    if own > MAX_ROUNDING or files > max(ALLOWANCE * own, MAX_RELATIVE_DIFFERENCE):
        raise ExportError(
            f"the exported file differs from the network at batch {batch}, {height}x{width}: logits by "
            f"{parity.relative_difference:.2e} of the largest (allowed {MAX_RELATIVE_DIFFERENCE:.0e}), equal classes "
            f"in {parity.argmax_agreement:.6f} of the pixels (needed {MIN_ARGMAX_AGREEMENT}); no file was written"
            f"{explain(image)}"
        )
    return replace(parity, rounding=own)


class _Recorder(torch.fx.Interpreter):
    """Runs a traced network and keeps what each of its operations gives, by its name."""

    def __init__(self, module: torch.fx.GraphModule, names: Container[str]) -> None:
        super().__init__(module, garbage_collect_values=True)
        self.names = names
        self.seen: dict[str, Tensor] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.names and isinstance(result, Tensor) and result.is_floating_point():
            self.seen[n.name] = result
        return result


def first_difference(program: Any, model: onnx.ModelProto, fed: Tensor) -> str:
    """Where a file first computes something else than the traced network of which it was made, as a message's end.

    Args:
        program: torch's exported program, whose operations carry the names that they have in the file.
        model: the file.
        fed: what the program and the file are given, (N, 3, H, W).
    """
    made = makers(model)
    traced = program.module()
    last = next(node for node in traced.graph.nodes if node.op == "output").args[0][0]
    own = dict.fromkeys([str(last)], model.graph.output[0].name)  # the file calls its output otherwise
    recorder = _Recorder(traced, {*made, *own})
    with torch.no_grad():
        recorder.run(fed)
    given = {model.graph.input[0].name: fed.numpy()}
    found = values_of(model, [own.get(name, name) for name in recorder.seen], given)
    for traced_name, expected in recorder.seen.items():
        name = own.get(traced_name, traced_name)
        got = torch.from_numpy(found[name])
        largest = float(expected.abs().max())
        if got.shape != expected.shape or float((got - expected).abs().max()) > MAX_RELATIVE_DIFFERENCE * largest:
            return f"; they first differ at {made[name].op_type} {made[name].name!r} ({name})"
    return (
        "; every operation gives what it gave when the network was traced, so the network does otherwise than its "
        "trace: Python state, or a branch that depends on values"
    )
