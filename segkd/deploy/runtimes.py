"""One face over torch and ONNX Runtime: images (N, C, H, W) uint8 in, logits (N, K, H, W) or labels (N, H, W) out."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError, nearest
from segkd.images import channels_of, resize_image, resize_labels

METADATA_KEY = "segkd"
LOGITS, LABELS = "logits", "labels"
WAYS = ("bf16", "channels_last", "compile")
CPU = "CPUExecutionProvider"
TENSORRT = "tensorrt"  # for which a file was quantised


class Runtime(ABC):
    """What predicts, by whatever library: the face of `TorchRuntime` and `OnnxRuntime`.

    Attributes:
        name: what runs ("torch", "onnxruntime").
        num_classes: K.
        channels: C, bands of its images, 3 but of networks for more.
        size: the one image size (H, W) it takes, or None for any.
        file_size: bytes of the file, or, for a torch network, of all its tensors.
        metadata: what the file says about itself (class names, ...); empty for torch.
        output: "logits", or "labels" of a file that takes the strongest class itself.
        device: where it computes.
    """

    name: str
    num_classes: int
    size: tuple[int, int] | None
    file_size: int
    metadata: Mapping[str, Any]
    device: torch.device
    channels = 3
    output = LOGITS

    def __init__(self, resize: bool = False) -> None:
        self.resize = resize

    def predict(self, image: Tensor) -> Tensor:
        """(N, C, H, W) uint8 RGB -> logits (N, K, H, W) float32.

        Raises:
            UserError: an image of another size than the file's, unless ``resize`` was asked for: then image and logits
                are resized bilinearly (the image antialiased), there and back. A file that gives labels alone.
        """
        if self.output != LOGITS:
            raise UserError(f"the {self.name} file gives labels alone; export one with --output logits")
        return self._answer(image)

    def labels(self, image: Tensor) -> Tensor:
        """(N, C, H, W) uint8 RGB -> the strongest class (N, H, W) of each pixel, int64 or, from a file, uint8."""
        answer = self._answer(image)
        return answer if self.output == LABELS else answer.max(1).indices

    def _answer(self, image: Tensor) -> Tensor:
        if image.ndim != 4 or image.shape[1] != self.channels or image.dtype != torch.uint8:
            raise UserError(f"images must be (N, {self.channels}, H, W) uint8, got {tuple(image.shape)} {image.dtype}")
        only = self.metadata.get("batch")
        if only is not None and len(image) != only:
            raise UserError(f"the file takes {only} images a call, not {len(image)}; export one without --batch")
        given = (int(image.shape[-2]), int(image.shape[-1]))
        if self.size is None or given == self.size:
            return self._run(image)
        if not self.resize:
            raise UserError(
                f"the file takes images of {self.size[0]}x{self.size[1]} (HxW), not {given[0]}x{given[1]}; "
                "export one for that size, or ask for resizing"
            )
        answer = self._run(resize_image(image, self.size))
        if self.output == LABELS:
            return resize_labels(answer, given)
        return F.interpolate(answer, size=given, mode="bilinear", align_corners=False)

    @abstractmethod
    def _run(self, image: Tensor) -> Tensor: ...

    def again(self) -> Runtime:
        """The same, loaded anew."""
        return copy.deepcopy(self)


class TorchRuntime(Runtime):
    """A segkd network in eval mode, on the device where it is, with ``threads`` CPU threads during each call.

    Args:
        network: module with ``preprocess`` and ``num_classes``.
        ways: of "bf16" (autocast), "channels_last", "compile" (torch.compile) those in which it runs.
        channels: bands of the images, of which the network sees the first ones (default: as many as it takes).
    """

    def __init__(
        self, network: nn.Module, threads: int = 2, ways: Sequence[str] = (), channels: int | None = None
    ) -> None:
        super().__init__()
        for way in ways:
            if way not in WAYS:
                raise UserError(f"torch does not run as {way!r}; {nearest(way, WAYS)}")
        self.name = " ".join(["torch", *ways])
        self.network, self.threads, self.ways = network.eval(), threads, tuple(ways)
        if "channels_last" in ways:
            self.network = self.network.to(memory_format=torch.channels_last)
        self._call: Any = torch.compile(self.network) if "compile" in ways else self.network
        self.num_classes = int(network.num_classes)  # type: ignore[arg-type]
        self.channels = channels or channels_of(network)
        self.size = None
        tensors = network.state_dict().values()
        self.file_size = sum(t.numel() * t.element_size() for t in tensors)
        self.metadata = {}
        self.device = next((t.device for t in tensors), torch.device("cpu"))

    def _run(self, image: Tensor) -> Tensor:
        half = torch.autocast(self.device.type, torch.bfloat16, enabled="bf16" in self.ways)
        with torch.no_grad(), torch_threads(self.threads), half:
            x = self.network.preprocess(image.to(self.device))  # type: ignore[operator]
            if "channels_last" in self.ways:
                x = x.contiguous(memory_format=torch.channels_last)
            logits: Tensor = self._call(x)
        return logits.float()

    def again(self) -> TorchRuntime:
        return TorchRuntime(copy.deepcopy(self.network), self.threads, self.ways, self.channels)

    def __reduce__(self) -> tuple[Any, ...]:  # what torch.compile makes is not for other processes
        return type(self), (self.network, self.threads, self.ways, self.channels), {"metadata": self.metadata}


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """A context in which torch computes on that many CPU threads."""
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class OnnxRuntime(Runtime):
    """An ONNX file that segkd wrote (float32 or int8), in ONNX Runtime.

    Args:
        path: the file.
        threads: CPU threads.
        resize: see `Runtime`.
        provider: what computes: the CPU, or "CUDAExecutionProvider" or "TensorrtExecutionProvider" where ONNX Runtime
            has them.

    Raises:
        UserError: no such file, a file that ONNX Runtime cannot read, or one that segkd did not write; a provider that
            is not installed.
    """

    def __init__(self, path: str | Path, threads: int = 2, resize: bool = False, provider: str = CPU) -> None:
        super().__init__(resize)
        self.path, self.threads, self.provider = Path(path), threads, provider
        self.session = open_session(self.path, threads, provider)
        if provider == CPU and _asked(self.session) == TENSORRT:
            self.session = open_session(self.path, threads, provider, rounded=True)
        self.name = "onnxruntime" if provider == CPU else f"onnxruntime {provider.removesuffix('ExecutionProvider')}"
        self.metadata = _metadata(self.session, self.path)
        self.num_classes, self.channels = int(self.metadata["num_classes"]), bands_of(self.metadata)
        self.output = self.metadata.get("output", LOGITS)
        self.size = size_of(self.metadata)
        self.file_size = self.path.stat().st_size
        self.device = torch.device("cpu")

    def _run(self, image: Tensor) -> Tensor:
        (answer,) = self.session.run(None, {"image": self.to_input(image)})
        return torch.from_numpy(answer)

    def to_input(self, image: Tensor) -> NDArray[Any]:
        """What the graph is fed for images (N, C, H, W) uint8."""
        return fed(image, self.metadata)

    def again(self) -> OnnxRuntime:
        return OnnxRuntime(self.path, self.threads, self.resize, self.provider)

    def __reduce__(self) -> tuple[Any, ...]:  # a session cannot be pickled
        return type(self), (self.path, self.threads, self.resize, self.provider)


def bands_of(metadata: Mapping[str, Any]) -> int:
    """How many bands the images have of a file that says this about itself."""
    return len(metadata.get("preprocess", {}).get("mean", (0, 0, 0)))


def size_of(metadata: Mapping[str, Any]) -> tuple[int, int] | None:
    """The image size (H, W) of a file that says this about itself; None for any."""
    size = metadata["size"]
    return None if size is None else (int(size[0]), int(size[1]))


def fed(image: Tensor, metadata: Mapping[str, Any]) -> NDArray[Any]:
    """What a file is fed for images (N, C, H, W) uint8: themselves, or preprocessed where that is not inside."""
    if metadata["preprocess"]["inside"]:
        return image.cpu().numpy()
    return preprocess(image, metadata["preprocess"])


def preprocess(image: Tensor, constants: Mapping[str, Any]) -> NDArray[np.float32]:
    """``(image[order] * scale - mean) / std`` in float32, of images (N, C, H, W) uint8 RGB."""
    mean, std = (np.asarray(constants[k], np.float32).reshape(1, -1, 1, 1) for k in ("mean", "std"))
    ordered = image.cpu().numpy()[:, constants["order"]].astype(np.float32)
    result: NDArray[np.float32] = (ordered * np.float32(constants["scale"]) - mean) / std
    return result


def session_options(threads: int, rounded: bool = False) -> onnxruntime.SessionOptions:
    """Options of a session: ``threads`` CPU threads that sleep while they wait, as spinning ones slow all else down.

    ``rounded``: compute in float between the roundings that an int8 file asks for, exactly. By itself ONNX Runtime
    makes unsigned integers of signed ones on x64, where their sums saturate on CPUs without VNNI.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if rounded:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def _asked(session: onnxruntime.InferenceSession) -> str | None:
    """For what a file was quantised; None for a float one."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    found: str | None = json.loads(text or "{}").get("quantization", {}).get("route")
    return found


def open_session(
    path: str | Path, threads: int = 2, provider: str = CPU, rounded: bool = False
) -> onnxruntime.InferenceSession:
    """A session for the file at ``path``, on the CPU or by another provider; ``rounded`` as of ``session_options``."""
    if not Path(path).is_file():
        raise UserError(f"ONNX file not found: {path}")
    if provider not in onnxruntime.get_available_providers():
        name = provider.removesuffix("ExecutionProvider")
        raise UserError(f"ONNX Runtime has no {name} here: pip install onnxruntime-gpu, on a machine with such a GPU")
    options = session_options(threads, rounded)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime's exceptions share no base but this one
        raise UserError(f"cannot read {path} as ONNX: {str(error).splitlines()[0]}") from error


def _metadata(session: onnxruntime.InferenceSession, path: Path) -> dict[str, Any]:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise UserError(f"{path} was not written by segkd (it has no {METADATA_KEY!r} metadata); use `segkd export`")
    content: dict[str, Any] = json.loads(text)
    return content
