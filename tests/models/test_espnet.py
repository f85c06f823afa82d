"""ESPNet against the golden shapes, a plain form of its block, and its published weights on real CamVid images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from published import GOLDEN, difference, espnet_names, gmacs, on_meta
from torch import Tensor
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.blocks import SpatialPyramid
from segkd.models.espnet import PUBLISHED, ESPNet, ESPNetC

SHARED = Path(__file__).resolve().parents[2] / "../shared"
WEIGHTS = SHARED / "data/weights/espnet_p_2_q_8_camvid.pth"
VARIANTS: dict[str, tuple[dict[str, Any], int]] = {
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
def test_parameters_and_cost(variant: str) -> None:
    arguments, count = VARIANTS[variant]
    network = on_meta(lambda: ESPNet(**arguments))
    assert sum(p.numel() for p in network.parameters()) == count
    assert difference(network, variant) == (Counter(), Counter())
    buffers = [name for name, _ in network.named_buffers() if not name.startswith("preprocess")]
    assert len(buffers) == 3 * GOLDEN[variant]["batchnorm"]["n"]
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[variant]["gmacs"]["512x1024"], rel=1e-3)


def test_encoder_alone_is_the_published_one() -> None:
    name = "ESPNet-C(p2,q8,nc19)"
    network = on_meta(lambda: ESPNetC(num_classes=19))
    assert difference(network, name) == (Counter(), Counter())
    assert gmacs(network, 512, 1024) == pytest.approx(GOLDEN[name]["gmacs"]["512x1024"], rel=1e-3)


@pytest.mark.parametrize(("q", "parameters", "cost"), [(8, 349_193, 3.468), (5, 252_041, 2.68), (3, 187_273, 2.16)])
def test_depths_of_the_encoder(q: int, parameters: int, cost: float) -> None:
    """The authors' three depths, counted on their code: millions to four digits, GMAC at 512x1024 to three."""
    network = on_meta(lambda: ESPNetC(num_classes=19, q=q))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert gmacs(network, 512, 1024) == pytest.approx(cost, rel=3e-3)


def test_encoder_alone_is_the_encoder_resized() -> None:
    """The same weights in ESPNet's encoder give the map that ESPNet-C resizes, at an odd size."""
    torch.manual_seed(0)
    alone, whole = ESPNetC(5, q=1).double().eval(), ESPNet(5, q=1).double().eval()
    whole.encoder.load_state_dict(alone.encoder.state_dict())
    x = torch.randn(1, 3, 45, 67, dtype=torch.float64)
    with torch.no_grad():
        coarse = whole.encoder(x)[3]
        want = F.interpolate(coarse, size=(45, 67), mode="bilinear", align_corners=False)
        torch.testing.assert_close(alone(x), want)
    assert coarse.shape == (1, 5, 6, 9)


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


@pytest.mark.parametrize("q", [1, 3])
def test_published_names_map_one_to_one(q: int) -> None:
    ours = set(ESPNet(12, p=1, q=q).state_dict())
    mapped = [PUBLISHED["camvid"].our_name(key) for key in espnet_names(1, q)]
    assert len(set(mapped)) == len(mapped)
    assert set(mapped) == {k for k in ours if not k.startswith("preprocess") and "num_batches" not in k}


def as_published(network: ESPNet | ESPNetC, path: Path, encoder: bool) -> None:
    """Write ``network``'s tensors under the authors' names, without what their files lack."""
    own = {k: v for k, v in network.state_dict().items() if "preprocess" not in k and "num_batches" not in k}
    names = {PUBLISHED["camvid"].our_name(key): key for key in espnet_names(1, 1)}
    chosen = {k: v for k, v in own.items() if not encoder or k.startswith("encoder.")}
    torch.save({names[k].removeprefix("encoder.") if encoder else names[k]: v for k, v in chosen.items()}, path)


def test_published_files_of_cityscapes(tmp_path: Path) -> None:
    """One entry of the table: the "test" decoder, 20 outputs of which the last is void, its own statistics."""
    file = tmp_path / "theirs.pth"
    source = ESPNet(20, p=1, q=1, decoder="test").eval()
    as_published(source, file, encoder=False)
    network = ESPNet(20, p=1, q=1, weights=file, published="cityscapes", outputs=19).eval()
    x = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(network(x), source(x)[:, :19])
    image = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    want = [(30 - 72.3923) / 45.3192 / 255, (20 - 82.9090) / 46.1529 / 255, (10 - 73.1584) / 44.9148 / 255]
    torch.testing.assert_close(network.preprocess(image).flatten(), torch.tensor(want), rtol=1e-4, atol=0)


def test_published_files_of_the_encoder(tmp_path: Path) -> None:
    """They have the encoder's names without ``encoder.``."""
    file = tmp_path / "theirs.pth"
    source = ESPNetC(20, p=1, q=1).eval()
    as_published(source, file, encoder=True)
    network = ESPNetC(20, p=1, q=1, weights=file, published="cityscapes", outputs=19).eval()
    x = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        assert torch.equal(network(x), source(x)[:, :19])
    with pytest.raises(UserError, match="make a file of ours of it with `segkd import-weights`"):
        ESPNetC(20, p=1, q=1, weights=file)
    with pytest.raises(UserError, match="no published weights of ESPNet-C for 'camvid'"):
        ESPNetC(20, p=1, q=1, weights=file, published="camvid")


def test_halving_before_or_after_the_normalisation_is_the_same(published: ESPNet) -> None:
    """The authors normalise Cityscapes' images, then halve them; here an image is halved before ``preprocess``."""
    image = torch.rand(1, 3, 32, 48) * 255
    halves = [F.interpolate(x, scale_factor=0.5, mode="bilinear") for x in (image, published.preprocess(image))]
    torch.testing.assert_close(published.preprocess(halves[0]), halves[1], rtol=1e-4, atol=1e-6)


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
    with pytest.raises(UserError, match="segkd import-weights"):
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
