"""ESPNet against the golden shapes, a plain form of its block, and its published weights on real CamVid images."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.blocks import SpatialPyramid
from segkd.models.espnet import ESPNet, our_key

SHARED = Path(__file__).resolve().parents[2] / "../shared"
GOLDEN = SHARED / "reference/golden/networks.json"
WEIGHTS = SHARED / "data/weights/espnet_p_2_q_8_camvid.pth"
VARIANTS = {
    "ESPNet(p2,q3,nc19)[train/Model.py]": (dict(num_classes=19, q=3), 201_542),
    "ESPNet(p2,q8,nc19)[train/Model.py]": (dict(num_classes=19), 363_462),
    "ESPNet(p2,q8,nc12)[train/Model.py]": (dict(num_classes=12), 354_517),
    "ESPNet(p2,q8,nc20)[test/Model.py]": (dict(num_classes=20, decoder="test"), 364_569),
}


@pytest.fixture(scope="module")
def published() -> ESPNet:
    if not WEIGHTS.is_file():
        pytest.skip("the published ESPNet weights are not beside the checkout (../shared/data/weights)")
    return ESPNet(num_classes=12, outputs=11, weights=WEIGHTS, published="camvid").eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters(variant: str) -> None:
    arguments, count = VARIANTS[variant]
    assert sum(p.numel() for p in ESPNet(**arguments).parameters()) == count  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_equal_golden(variant: str) -> None:
    if not GOLDEN.is_file():
        pytest.skip("the golden file is not beside the checkout")
    golden = json.loads(GOLDEN.read_text())[variant]
    network = ESPNet(**VARIANTS[variant][0])  # type: ignore[arg-type]
    shapes = Counter(tuple(p.shape) for p in network.parameters())
    assert shapes == Counter({tuple(shape): count for shape, count in golden["param_shapes"]})
    assert sum(1 for name, _ in network.named_buffers() if not name.startswith("preprocess")) == golden["buffers_count"]


@pytest.mark.parametrize(
    ("cin", "cout", "down", "residual"), [(64, 64, False, True), (19, 64, True, True), (24, 12, False, False)]
)
def test_pyramid_against_its_formula(cin: int, cout: int, down: bool, residual: bool) -> None:
    torch.manual_seed(0)
    block = SpatialPyramid(cin, cout, down, residual).double().eval()
    block.norm.running_mean.normal_()  # type: ignore[union-attr]
    block.act.weight.data.normal_()
    x = torch.randn(2, cin, 21, 18, dtype=torch.float64)
    reduced = F.conv2d(x, block.reduce.weight, stride=2 if down else 1, padding=1 if down else 0)
    y = {
        d: F.conv2d(reduced, b.weight, padding=d, dilation=d)
        for d, b in zip((1, 2, 4, 8, 16), block.branches, strict=True)
    }
    out = torch.cat([y[1], y[2], y[2] + y[4], y[2] + y[4] + y[8], y[2] + y[4] + y[8] + y[16]], 1)
    if residual and not down:
        out = out + x
    out = (out - block.norm.running_mean.view(1, -1, 1, 1)) / (1 + 1e-3) ** 0.5  # type: ignore[union-attr]
    slope = block.act.weight.view(1, -1, 1, 1)
    torch.testing.assert_close(block(x), torch.where(out > 0, out, slope * out))


def test_published_names_map_one_to_one() -> None:
    """Every tensor in the authors' file (as listed in 2018, p = q = 1 shown) gets one of our names."""
    ours = set(ESPNet(12, p=1, q=1).state_dict())
    block = ["c1.conv", "d1.conv", "d2.conv", "d4.conv", "d8.conv", "d16.conv"]
    norm = ["weight", "bias", "running_mean", "running_var"]
    theirs = [
        "encoder.level1.conv.weight",
        "encoder.classifier.conv.weight",
        "level3_C.conv.weight",
        "conv.conv.weight",
    ]
    theirs += ["up_l3.0.weight", "up_l2.0.weight", "classifier.weight", *(f"br.{n}" for n in norm)]
    for stem in ("encoder.level2_0", "encoder.level3_0", "encoder.level2.0", "encoder.level3.0", "combine_l2_l3.1"):
        theirs += [f"{stem}.{c}.weight" for c in block]
    plain = ["encoder.level1", "encoder.b1", "encoder.b2", "encoder.b3", "encoder.level2_0", "encoder.level3_0", "conv"]
    nested = ["encoder.level2.0.bn", "encoder.level3.0.bn", "combine_l2_l3.0", "combine_l2_l3.1.bn", "up_l2.1"]
    for stem in plain + nested:
        theirs += [f"{stem}.act.weight", *(f"{stem}.bn.{n}" for n in norm)]
    mapped = [our_key(key) for key in theirs]
    assert len(set(mapped)) == len(mapped)
    assert set(mapped) == {k for k in ours if not k.startswith("preprocess") and "num_batches" not in k}


def confusion(network: ESPNet, root: Path, split: str, limit: int | None = None) -> np.ndarray:
    """(11, 11) counts, rows = truth; void pixels left out. Written here, without segkd's scores."""
    counts = np.zeros((11, 11), dtype=np.int64)
    for path in sorted((root / "images" / split).glob("*.jpg"))[:limit]:
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        label = cv2.imread(str(root / "labels" / split / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        with torch.no_grad():
            logits: Tensor = network.predict(torch.from_numpy(rgb).permute(2, 0, 1)[None])
        predicted = logits.argmax(1)[0].numpy()
        valid = label != 255
        counts += np.bincount(label[valid].astype(np.int64) * 11 + predicted[valid], minlength=121).reshape(11, 11)
    return counts


def iou(counts: np.ndarray) -> np.ndarray:
    """Per class, in percent."""
    hit = np.diag(counts)
    return np.asarray(100 * hit / (counts.sum(0) + counts.sum(1) - hit))


def test_published_weights_on_six_images(published: ESPNet, camvid_root: Path) -> None:
    counts = confusion(published, camvid_root, "test", limit=6)
    frozen = [88.30, 79.43, 23.71, 94.96, 72.70, 78.08, 40.77, 0.00, 74.85, 41.92, 76.62]
    np.testing.assert_allclose(iou(counts), frozen, atol=0.05)
    assert np.diag(counts).sum() / counts.sum() == pytest.approx(0.9008, abs=2e-4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("split", "images", "miou"), [("test", 233, 57.12), ("val", 101, 69.16)])
def test_published_score(published: ESPNet, camvid_root: Path, split: str, images: int, miou: float) -> None:
    """Published: 55.64 with void counted as false positive; 57.26 without, on PNGs; 57.12 on these JPEGs."""
    assert len(list((camvid_root / "images" / split).glob("*.jpg"))) == images
    assert iou(confusion(published, camvid_root, split)).mean() == pytest.approx(miou, abs=0.1)


def test_outputs_keeps_the_first_logits(published: ESPNet) -> None:
    whole = ESPNet(num_classes=12, weights=WEIGHTS, published="camvid").eval()
    x = torch.randn(1, 3, 49, 66)
    assert (whole.num_classes, published.num_classes) == (12, 11)
    with torch.no_grad():
        assert torch.equal(whole(x)[:, :11], published(x))


def test_own_file_loads_without_published(published: ESPNet, tmp_path: Path) -> None:
    file = tmp_path / "espnet.pth"
    torch.save(published.state_dict(), file)
    again = ESPNet(num_classes=12, outputs=11, weights=file).eval()
    image = torch.randint(0, 256, (1, 3, 40, 56), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.predict(image), published.predict(image))


def test_published_preprocessing(published: ESPNet) -> None:
    """((B, G, R) - mean) / std / 255."""
    image = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    want = [(30 - 110.331) / 72.126 / 255, (20 - 108.409) / 72.691 / 255, (10 - 105.033) / 69.904 / 255]
    torch.testing.assert_close(published.preprocess(image).flatten(), torch.tensor(want))


def test_published_file_needs_to_be_named(published: ESPNet) -> None:
    with pytest.raises(UserError, match="published='camvid'"):
        ESPNet(num_classes=12, weights=WEIGHTS)
    with pytest.raises(UserError, match=r"refine.conv.weight is \(12, 31, 3, 3\) in the file, \(12, 28, 3, 3\)"):
        ESPNet(num_classes=12, decoder="test", weights=WEIGHTS, published="camvid")


def test_odd_sizes_crop_the_last_row_only() -> None:
    """At 8k - 1 the maps have the sizes of 8k: the logits of an image and of it padded by hand have one shape rule."""
    network = ESPNet(5).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 63, 95)).shape == (1, 5, 63, 95)
        assert network(torch.randn(1, 3, 57, 41)).shape == (1, 5, 57, 41)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 3}, "use num_classes=5 with outputs=3"),
        ({"num_classes": 12, "decoder": "tset"}, "'train' or 'test', got 'tset'"),
        ({"num_classes": 12, "outputs": 13}, r"2\.\.num_classes=12, got 13"),
        ({"num_classes": 12, "p": 0}, "p >= 1"),
        ({"num_classes": 12, "published": "camvit", "weights": "x"}, "did you mean 'camvid'"),
        ({"num_classes": 12, "published": "camvid"}, "give it as weights"),
    ],
)
def test_mistakes(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ESPNet(**arguments)  # type: ignore[arg-type]
