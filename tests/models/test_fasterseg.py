"""FasterSeg and its teacher against the published shapes, cost and op tables, and plain forms of their cells."""

from __future__ import annotations

from collections import Counter

import published
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.losses.kd import PixelwiseKD
from segkd.models.fasterseg import FasterSeg, FasterSegTeacher, Merge, Zoomed
from segkd.segmentor import Segmentor
from segkd.workbench.composing import compose

STUDENT = "FasterSeg arch_1 lasts=[2, 1][official, inference build]"
TEACHER = "FasterSeg arch_0 lasts=[2, 1][official, inference build]"

# Per cell of a branch: op (2 zoomed convolution, 3 two convolutions, 4 zoomed pair), channels, stride; as read from the
# authors' files. What both branches share is in both.
TABLES = {
    FasterSeg: (
        "3/32 3/32 4/32 2/128/2 4/64 4/64 4/64 4/128/2 4/128 4/256",
        "3/32 3/32 4/32 4/32 3/32 3/64/2 4/64 4/192 4/128",
    ),
    FasterSegTeacher: (
        "2/96 4/96 4/96 4/96 4/96 4/192/2 4/192 2/192 4/192 4/192 4/192 4/192 4/192 4/384/2 3/384 3/384",
        "2/96 4/96 4/96 4/96 4/192/2 3/192 4/192 2/192 4/192 4/192 4/192 4/192 4/192 4/192 4/192 4/192",
    ),
}


@pytest.mark.parametrize(
    ("build", "golden", "width", "parameters"),
    [(FasterSeg, STUDENT, 128, 3_454_643), (FasterSegTeacher, TEACHER, 192, 22_188_931)],
)
def test_shapes_equal_golden(build: type[FasterSeg], golden: str, width: int, parameters: int) -> None:
    """But for the two 1x1 convolutions of channel attention that the authors build and never run."""
    network = published.on_meta(lambda: build(num_classes=19))
    assert published.difference(network, golden) == (Counter(), Counter({(width, width, 1, 1): 2}))
    assert sum(p.numel() for p in network.parameters()) == parameters - 2 * width**2


@pytest.mark.parametrize(("build", "gmacs"), [(FasterSeg, (6.943, 27.77)), (FasterSegTeacher, (26.945, 107.779))])
def test_cost_is_the_published_one(build: type[FasterSeg], gmacs: tuple[float, float]) -> None:
    network = published.on_meta(lambda: build(num_classes=19))
    for (height, width), want in zip(((512, 1024), (1024, 2048)), gmacs, strict=True):
        assert published.gmacs(network, height, width) == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("build", TABLES)
def test_cells_are_those_of_the_published_tables(build: type[FasterSeg]) -> None:
    network = published.on_meta(lambda: build(num_classes=5))
    assert isinstance(network, FasterSeg)
    deep = [*network.trunk, *network.deep8, *network.deep16, *network.deep32]
    shallow = [*network.trunk, *network.shallow8, *network.shallow16]
    for cells, table in zip((deep, shallow), TABLES[build], strict=True):
        assert " ".join(described(cell) for cell in cells) == table


def described(cell: nn.Module) -> str:
    convolutions = [m for m in cell.modules() if isinstance(m, nn.Conv2d)]
    op = 2 * len(convolutions) if isinstance(cell, Zoomed) else 3
    stride = cell.stride if isinstance(cell, Zoomed) else convolutions[0].stride[0]
    return f"{op}/{convolutions[-1].out_channels}" + (f"/{stride}" if stride != 1 else "")


@pytest.mark.parametrize(
    ("name", "train_build", "unused"),
    [("fasterseg", 4_385_689, 128), ("fasterseg_teacher", 23_524_137, 192)],
)
def test_parameters_with_the_auxiliary_heads(name: str, train_build: int, unused: int) -> None:
    cfg = compose(name, data="cityscapes")
    with torch.device("meta"):  # a taste of the network is run, which costs nothing there
        model = Segmentor(network=cfg["model"]["network"], supervision=cfg["model"]["supervision"])
    assert sum(p.numel() for p in model.parameters()) == train_build - 2 * unused**2


def norm(x: Tensor) -> Tensor:
    return x / (1 + 1e-5) ** 0.5


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("convolutions", [1, 2])
@pytest.mark.parametrize("size", [(12, 18), (7, 9)])
def test_zoomed_convolution_against_its_definition(stride: int, convolutions: int, size: tuple[int, int]) -> None:
    """Down, convolve, up, ReLU last, in float64; halves of odd sizes round up."""
    torch.manual_seed(0)
    cell = Zoomed(4, 6, convolutions, stride).double().eval()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    want = F.interpolate(x, size=half, mode="bilinear", align_corners=True)
    weights = [m.weight for m in cell.modules() if isinstance(m, nn.Conv2d)]
    assert len(weights) == convolutions
    for k, weight in enumerate(weights):
        want = norm(F.conv2d(want.clamp_min(0) if k else want, weight, padding=1))
    if stride == 1:
        want = F.interpolate(want, size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(cell(x), want.clamp_min(0))


def test_merge_against_its_definition() -> None:
    torch.manual_seed(0)
    merge = Merge(coarse=6, fine=3, cout=4).double().eval()
    coarse, fine = torch.randn(1, 6, 4, 5, dtype=torch.float64), torch.randn(1, 3, 7, 10, dtype=torch.float64)
    reduced = norm(F.conv2d(coarse, merge.reduce[0].weight)).clamp_min(0)  # type: ignore[arg-type]
    up = F.interpolate(reduced, size=(7, 10), mode="bilinear", align_corners=True)
    want = norm(F.conv2d(torch.cat([up, fine], 1), merge.project[0].weight, padding=1)).clamp_min(0)  # type: ignore[arg-type]
    torch.testing.assert_close(merge(coarse, fine), want)


def test_what_is_fused_and_what_the_heads_see() -> None:
    """The branches' maps, in order; the head at stride 16 sees both joined. At a size where halves are odd."""
    network = FasterSeg(num_classes=5).eval()
    seen: dict[str, tuple[tuple[Tensor, ...], Tensor]] = {}
    paths = "trunk deep16 deep32 shallow8 shallow16 joined16 merge16 merge_deep8 merge_shallow8 fusion classifier"
    for path in paths.split():
        network.get_submodule(path).register_forward_hook(lambda m, a, out, path=path: seen.update({path: (a, out)}))
    with torch.no_grad():
        logits = network(torch.randn(1, 3, 81, 119))
    out = {path: output for path, (_, output) in seen.items()}
    assert torch.equal(out["joined16"], torch.cat([out["deep16"], out["shallow16"]], 1))
    assert all(map(torch.equal, seen["merge16"][0], (out["deep32"], out["deep16"])))
    assert all(map(torch.equal, seen["merge_deep8"][0], (out["merge16"], out["trunk"])))
    assert all(map(torch.equal, seen["merge_shallow8"][0], (out["shallow16"], out["shallow8"])))
    assert torch.equal(seen["fusion"][0][0], torch.cat([out["merge_deep8"], out["merge_shallow8"]], 1))
    want = F.interpolate(out["classifier"], size=(81, 119), mode="bilinear", align_corners=True)
    torch.testing.assert_close(logits, want)


def test_one_small_image_is_refused_in_training() -> None:
    network = FasterSeg(num_classes=5)
    with pytest.raises(UserError, match="FasterSeg cannot train with batch size 1 on 64x64"):
        network(torch.randn(1, 3, 64, 64))
    assert network(torch.randn(1, 3, 64, 65)).shape == (1, 5, 64, 65)
    assert network.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 5, 64, 64)


@pytest.mark.parametrize(("data", "classes"), [("cityscapes", 19), ("camvid", 11)])
def test_its_distillation_is_the_published_mean_over_everything(data: str, classes: int) -> None:
    teacher_file = "fasterseg_teacher@teacher.pth"
    model = compose("fasterseg", teacher=teacher_file, recipe="fasterseg", data=data)["model"]
    bind = model["binds"]["pixel"]
    assert (bind["student"], bind["teacher"]) == ("@logits", "@logits")
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, classes, 5, 7, dtype=torch.float64)
    # nn.KLDivLoss() of then
    want = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="sum") / student.numel()
    torch.testing.assert_close(bind["weight"] * PixelwiseKD(bind["loss"]["temperature"])(student, teacher), want)
