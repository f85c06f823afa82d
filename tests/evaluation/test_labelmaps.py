"""Label maps in bounded memory are those of the whole logits, up to ties."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.evaluation import labelmaps, spilling
from segkd.evaluation.grid import Side, neighbours, resample, window_starts
from segkd.evaluation.inference import with_views
from segkd.evaluation.labelmaps import label_map
from segkd.evaluation.looking import Views

VIEWS = [
    Views(flip, scales, window, stride)
    for flip, scales, (window, stride) in itertools.product(
        (False, True),
        ((1.0,), (0.5, 1.0, 1.75), (1.3,)),
        ((None, None), ((32, 40), None), ((32, 40), (20, 13)), ((200, 40), (7, 40))),
    )
]


def network() -> nn.Module:
    """Logits (N, 5, H, W) that vary smoothly and lean to one side."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 5, padding=2)

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = F.avg_pool2d(6 * conv(x.float() / 255), 4, ceil_mode=True)
            y = F.interpolate(y, size=x.shape[-2:], mode="bilinear")
            return torch.cat([y[:, :1] + torch.linspace(-1, 1, x.shape[-1]), y[:, 1:]], 1)

    return Net().requires_grad_(False)


def picture(size: tuple[int, int]) -> Tensor:
    rough = torch.rand(2, 3, size[0] // 4 + 1, size[1] // 4 + 1, generator=torch.Generator().manual_seed(1))
    return (255 * F.interpolate(rough, size=size, mode="bilinear")).to(torch.uint8)


@pytest.mark.parametrize(("size", "small"), [((61, 83), False), ((90, 40), True)], ids=["in memory", "in files"])
def test_they_are_those_of_the_whole_logits(
    size: tuple[int, int], small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:
        monkeypatch.setattr(labelmaps, "CELL_BYTES", 9000)
        monkeypatch.setattr(labelmaps, "LARGE", 1)
        monkeypatch.setattr(labelmaps, "MEMORY", 20_000)
        monkeypatch.setattr(spilling, "MEMORY", 20_000)
    predict, image = network(), picture(size)
    for views in VIEWS:
        whole = with_views(
            predict, flip=views.flip, scales=views.scales, window=views.window, stride=views.stride
        )(image).softmax(1)  # fmt: skip
        found = label_map(predict, image, None, views, confident=True)
        first, second = whole.topk(2, 1).values.unbind(1)
        near = (first - second) < (3e-3 if small and views.count > 1 else 1e-4)
        assert ((found.label == whole.argmax(1)) | near).all(), views
        assert near.float().mean() < 0.02
        assert found.confidence is not None
        torch.testing.assert_close(found.confidence, first, atol=1e-3 if small else 1e-4, rtol=0)


def test_at_the_labels_own_size() -> None:
    """One look: the logits are resized to the label, as ``evaluate`` always did; also in windows."""
    predict, image = network(), picture((61, 83))
    for size, window in itertools.product([(122, 166), (40, 41)], [None, (32, 40)]):
        logits = with_views(predict, window=window)(image)
        want = F.interpolate(logits, size=size, mode="bilinear").softmax(1)
        first, second = want.topk(2, 1).values.unbind(1)
        found = label_map(predict, image, size, Views(window=window)).label
        assert ((found == want.argmax(1)) | (first - second < 1e-4)).all()
        assert found.dtype == torch.uint8


@pytest.mark.parametrize(("source", "target"), [(7, 7), (7, 19), (19, 7), (1, 5), (100, 33), (33, 100)])
def test_resampling_is_that_of_torch(source: int, target: int) -> None:
    x = torch.randn(1, 2, source, 3)
    want = F.interpolate(x, size=(target, 3), mode="bilinear", align_corners=False)
    (columns,) = Side(3, 3, 3, 3, 3).spans()
    parts = [resample(x[:, :, rows.source], rows, columns) for rows in Side(source, target, source, source, 4).spans()]
    torch.testing.assert_close(torch.cat(parts, 2), want)
    low, high, fraction = neighbours(source, target)
    assert ((high == low) == (fraction == 0)).all()


def test_each_span_names_all_windows_that_see_it() -> None:
    for source, target, window, stride in itertools.product((50, 51), (50, 23, 90), (20, 50, 70), (7, 20)):
        side, seen = Side(source, target, window, stride, 6), []
        starts = window_starts(source, window, min(stride, window))
        for span in side.spans():
            seen += range(span.target.start, span.target.stop)
            for y in range(span.target.start, span.target.stop):
                place = min(max((y + 0.5) * source / target - 0.5, 0), source - 1)
                needs = {int(place), int(np.ceil(place))}
                windows = [k for k, a in enumerate(starts) if any(a <= p < a + window for p in needs)]
                assert (windows[0], windows[-1]) == span.windows
        assert seen == list(range(target))


def test_many_classes_have_their_numbers() -> None:
    def predict(image: Tensor) -> Tensor:
        return F.one_hot(torch.full(image[:, 0].shape, 299), 300).permute(0, 3, 1, 2).float()

    assert (label_map(predict, picture((32, 32)), None, Views(window=(20, 20))).label == 299).all()


@pytest.mark.parametrize(
    ("views", "says"),
    [
        ({"window": (32, 32), "stride": (33, 32)}, "windows of 32x32 moved by 33x32 .* leave gaps"),
        ({"stride": (20, 20)}, "a stride is that of windows: give a window"),
        ({"scales": (1.0, -2)}, "scales must be positive"),
        ({"scales": ()}, "scales must be positive"),
    ],
)
def test_views_that_cannot_be(views: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Views(**views)  # type: ignore[arg-type]


def test_a_full_disk_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spilling, "_reserve", full)
    monkeypatch.setattr(spilling, "MEMORY", 1)
    with pytest.raises(UserError, match=r"TMPDIR\) has no .* No space left"):
        label_map(network(), picture((40, 40)), None, Views(flip=True))


PEAK = """
import resource, torch
from torch.nn import functional as F
from segkd.evaluation import labelmaps, spilling
labelmaps.CELL_BYTES, labelmaps.MEMORY, spilling.MEMORY = 2**22, 2**23, 2**24
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
coarse = torch.nn.Conv2d(3, 150, 16, stride=16)
predict = lambda x: F.interpolate(coarse(x / 255), size=x.shape[-2:])
views = labelmaps.Views(window=(160, 160), flip={flip})
labelmaps.label_map(predict, torch.zeros(1, 3, 800, 1000, dtype=torch.uint8), None, views)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux has it")
@pytest.mark.parametrize("flip", [False, True])
def test_memory_is_bounded(flip: bool) -> None:
    """150 classes at 0.8 megapixels: all logits would be 458 MiB, and as much again for the mirror image."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", PEAK.format(flip=flip)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 170
