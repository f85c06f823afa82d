"""The memory that work needs at least, held against what there is: what cannot fit is refused before it starts.

And how the C library gives it: see ``keep_freed_memory``.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

GIB = 2**30
CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
INPUT_BYTES = 3 + 12  # of a pixel: uint8 RGB, and float32 as the network gets it
LABEL_BYTES = 8  # of a pixel: int64
MUCH = 8 * 1024  # bytes a pixel: more than networks keep for their backward pass (U-Net: 3.8 KiB)
PROBES = (64, 128)  # heights and widths of the two images by which a network is measured
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc's mallopt
LARGE_BLOCK = 2**20  # bytes
ALLOCATORS = ("MALLOC_", "GLIBC_TUNABLES")  # by whose variables a user has tuned malloc


def keep_freed_memory() -> bool:
    """Let glibc keep the tensors' memory that is freed, for the next ones; whether it does from now on.

    By default it gives each large block back to the system, whose pages are then cleared anew in every step: a
    distillation's step of 834 ms on 2 CPU cores came down to 654 ms, at the same peak of memory. Nothing is done for
    another C library, nor where variables of the environment (MALLOC_..., GLIBC_TUNABLES) tune it.
    """
    if any(name.startswith(ALLOCATORS) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, GIB) and mallopt(TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> bool:
    """Let glibc give large blocks back to the system as they are freed; whether it does from now on.

    The opposite of ``keep_freed_memory``, for images that hardly fit. By default it keeps blocks of up to 32 MiB, and
    holes between them: windows of 150 classes took 1.70 GB where they take 1.48 GB so. Blocks from 4 MiB on are not
    enough: six scales of an image of 20 megapixels took 2.3 GB then.
    """
    if any(name.startswith(ALLOCATORS) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGE_BLOCK) and mallopt(TRIM_THRESHOLD, LARGE_BLOCK))


def require(need: float, what: str, cure: str, device: torch.device | str = "cpu") -> None:
    """A UserError if ``what`` needs more bytes than the device has; on a CPU, than are free, with the free swap."""
    have = available(device)
    if need > have:
        where = "are free" if str(device) == "cpu" else f"is all that {device} has"
        raise UserError(
            f"{what}: needs at least {need / GIB:,.1f} GiB of memory, but {have / GIB:,.1f} {where}; {cure}"
        )


def available(device: torch.device | str = "cpu") -> int:
    """Bytes that may be had: all of a GPU, or the free memory and swap of the machine, within a container's limit."""
    if str(device) != "cpu":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    free = int(psutil.virtual_memory().available + psutil.swap_memory().free)
    limits = [Path(path).read_text().strip() for path in CGROUP if Path(path).is_file()]
    return min([free, *(int(limit) for limit in limits if limit.isdecimal())])


def check_inference(
    num_classes: int, size: tuple[int, int], batch: int = 1, device: torch.device | str = "cpu"
) -> None:
    """Refuse images of a size (H, W) whose input and logits alone do not fit."""
    need = batch * size[0] * size[1] * (INPUT_BYTES + 4 * num_classes)
    many = f"{batch} images" if batch > 1 else "an image"
    require(need, f"{many} of {size[0]}x{size[1]} (HxW)", "choose a smaller size or batch", device)


def check_training(
    network: Any, size: tuple[int, int], images: int, half: bool = False, device: torch.device | str = "cpu"
) -> None:
    """Refuse batches whose tensors, and what the network keeps of them for the backward pass, do not fit.

    Heads, losses, teachers and optimisers come on top. A small batch is let through unmeasured.

    Args:
        network: with ``predict`` (images uint8 -> logits), on the CPU; left as it was.
        size: (H, W) of the crops.
        images: crops that are in memory at once.
        half: precision is bf16 or fp16.
    """
    pixels = images * size[0] * size[1]
    what = f"a training batch of {images} crops of {size[0]}x{size[1]} (HxW)"
    cure = "lower data.batch_size or data.augment.crop_size"
    require(pixels * (INPUT_BYTES + LABEL_BYTES), what, cure, device)
    if pixels * MUCH > available(device):
        kept = kept_per_pixel(network) / (2 if half else 1)
        require(pixels * (INPUT_BYTES + LABEL_BYTES + kept), what, cure, device)


def kept_per_pixel(network: Any) -> float:
    """Bytes that a network keeps for its backward pass for each pixel of its input, in float32.

    By how much more it keeps of a larger image: what does not grow with the image is left out.
    """
    small, large = (_kept(network, side) for side in PROBES)
    return max(large - small, 0) / (PROBES[1] ** 2 - PROBES[0] ** 2)


def _kept(network: Any, side: int) -> int:
    """Bytes that autograd keeps of one forward pass in eval mode; weights are not counted."""
    import torch

    from segkd.images import channels_of

    flags = [(module, module.training) for module in network.modules()]
    kept: dict[int, int] = {}
    own = {weight.untyped_storage().data_ptr() for weight in (*network.parameters(), *network.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        network.eval()
        image = torch.zeros(1, channels_of(network), side, side, dtype=torch.uint8, device=_device(network))
        with (
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(keep, _same),
        ):
            logits = network.predict(image)
            del logits
    finally:
        for module, flag in flags:
            module.training = flag
    return sum(kept.values())


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
