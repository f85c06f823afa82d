"""How images are looked at to be scored: once, mirrored, at several sizes, in windows; checked as that is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segkd.errors import UserError

Size = tuple[int, int]


@dataclass(frozen=True)
class Views:
    """How an image is looked at: class probabilities are averaged over scales and mirror images, logits over windows.

    Attributes:
        flip: also at its mirror image.
        scales: at these sizes, as factors of its own.
        window: (H, W) of windows in which each is seen; None: as a whole.
        stride: (H, W) by which they are moved; None: two thirds of the window.
    """

    flip: bool = False
    scales: Sequence[float] = (1.0,)
    window: Size | None = None
    stride: Size | None = None

    def __post_init__(self) -> None:
        if not self.scales or not all(scale > 0 for scale in self.scales):
            raise UserError(f"scales must be positive numbers, got {list(self.scales)}")
        if self.window is None and self.stride is not None:
            raise UserError("a stride is that of windows: give a window, too")
        if self.window is not None:
            check_stride(self.window, self.steps)

    @property
    def steps(self) -> Size:
        """The stride, as given or by default."""
        height, width = self.window or (1, 1)
        return self.stride or (-(-height * 2 // 3), -(-width * 2 // 3))

    @property
    def count(self) -> int:
        """How many predictions of the whole image are averaged."""
        return len(self.scales) * (1 + self.flip)


def check_stride(window: Sequence[int], stride: Sequence[int]) -> None:
    """Refuse windows (H, W) that would leave gaps."""
    if min(*window, *stride) < 1 or stride[0] > window[0] or stride[1] > window[1]:
        sizes = ["x".join(map(str, size)) for size in (window, stride)]
        raise UserError(
            f"windows of {sizes[0]} moved by {sizes[1]} (HxW) leave gaps: a stride is from 1 to the window's size"
        )
