"""What every registered network keeps to; one without a case here is built as ``create(name, num_classes=11)``."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.models import NETWORKS, Network, create, names

CLASSES = 11


class Case(NamedTuple):
    name: str
    options: dict[str, Any]
    parameters: int  # at 11 classes, as the library alone counts them (pspnet: less its idle layer3 and layer4)

    def build(self, **more: Any) -> Network:
        return create(self.name, num_classes=CLASSES, **self.options, **more)


TINY_SWIN = dict(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), strict_img_size=False)
CASES = {
    "fast_scnn": Case("fast_scnn", {}, 1_137_019),
    "espnet": Case("espnet", {}, 353_437),
    "smp_deeplabv3plus": Case("smp", {"arch": "deeplabv3plus"}, 12_331_867),
    "smp_pspnet": Case("smp", {"arch": "pspnet"}, 882_475),
    "timm_mobilenet": Case("timm", {"encoder": "mobilenetv3_small_050", "decoder_channels": 32}, 0),
    "timm_swin": Case("timm", {"encoder": "swin_tiny_patch4_window7_224", "decoder_channels": 32, **TINY_SWIN}, 0),
    "torchvision_lraspp": Case("torchvision", {"arch": "lraspp_mobilenet_v3_large"}, 3_219_838),
}
CASES |= {name: Case(name, {}, 0) for name in names() if name not in {case.name for case in CASES.values()}}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a network was built without pretrained=True and opened a connection")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(params=list(CASES), scope="module")
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(key: str) -> Network:
    torch.manual_seed(0)
    return CASES[key].build().eval()


def image(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.randint(
        0, 256, (batch, 3, height, width), generator=torch.Generator().manual_seed(height), dtype=torch.uint8
    )


def outputs_of(network: Network, x: Tensor) -> dict[str, list[Tensor]]:
    """Shapes of what the layers of ``feature_info`` put out, read with hooks made here."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        network.get_submodule(info.path).register_forward_hook(
            lambda m, a, out, path=info.path: seen.setdefault(path, []).append(out)
        )
        for info in network.feature_info
    ]
    network(x)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("size", [(127, 253), (360, 480), (33, 32)])
def test_logits_at_input_size(network: Network, size: tuple[int, int]) -> None:
    with torch.no_grad():
        logits = network.predict(image(*size))
    assert logits.shape == (1, CLASSES, *size)
    assert logits.isfinite().all()
    assert logits.std() > 0


def test_feature_info_is_what_hooks_give(network: Network) -> None:
    with torch.no_grad():
        seen = outputs_of(network, torch.randn(1, 3, 64, 96))
    assert network.feature_info
    for info in network.feature_info:
        assert len(seen[info.path]) == 1, info.path
        assert seen[info.path][0].shape == (1, info.channels, 64 // info.stride, 96 // info.stride), info.path


def test_training_step_reaches_every_parameter(key: str) -> None:
    torch.manual_seed(0)
    network = CASES[key].build().train()
    logits = network.predict(image(64, 96, batch=2))
    assert logits.shape == (2, CLASSES, 64, 96)
    nn.functional.cross_entropy(logits, torch.randint(0, CLASSES, (2, 64, 96))).backward()
    idle = [path for path, p in network.named_parameters() if p.grad is None]
    assert not idle
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_image_and_sample_do_not_leak_into_others(network: Network) -> None:
    """In eval a sample's logits depend on that sample alone, and the network keeps no state."""
    pair = torch.cat([image(32, 64), image(32, 64).flip(3)])
    with torch.no_grad():
        both, first = network.predict(pair), network.predict(pair[:1])
    assert (both[:1] - first).abs().max() <= 1e-4 * first.abs().max()


def test_parameter_count_is_frozen(key: str, network: Network) -> None:
    if not CASES[key].parameters:
        pytest.skip("no frozen number for this case")
    assert sum(p.numel() for p in network.parameters()) == CASES[key].parameters


def test_weights_round_trip(key: str, network: Network, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    with torch.no_grad():
        network.preprocess.mean.add_(0.01)  # type: ignore[operator]
    torch.save(network.state_dict(), file)
    again = CASES[key].build(weights=file).eval()
    with torch.no_grad():
        assert torch.equal(again.predict(image(32, 48)), network.predict(image(32, 48)))


def test_weights_of_another_network(key: str, tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3)).state_dict(), file)
    with pytest.raises(UserError, match=r"other\.pth holds weights of another network .*lacks '.+'.*; \d+ missing"):
        CASES[key].build(weights=file)


def test_weights_of_another_class_count(key: str, network: Network, tmp_path: Path) -> None:
    file = tmp_path / "eleven.pth"
    torch.save(network.state_dict(), file)
    case = CASES[key]
    with pytest.raises(UserError, match=r"does not fit .* \(11,.*in the file, \(13,"):
        create(case.name, num_classes=13, weights=file, **case.options)


def test_missing_weights_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights file not found: .*nowhere\.pth"):
        create("fast_scnn", num_classes=CLASSES, weights=tmp_path / "nowhere.pth")


@pytest.mark.parametrize("key", ["smp_deeplabv3plus"], scope="module")
def test_exports_and_stays_equal(network: Network) -> None:
    """torch.export with a dynamic batch, at a size that needs padding."""
    x = torch.randn(2, 3, 70, 100)
    shapes = ({0: torch.export.Dim("batch", min=1, max=16)},)
    exported = torch.export.export(network, (x,), dynamic_shapes=shapes).module()
    x = torch.randn(3, 3, 70, 100)
    with torch.no_grad():
        torch.testing.assert_close(exported(x), network(x), rtol=1e-5, atol=1e-5)


def test_unknown_network_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'fast_scnn'"):
        NETWORKS.create("fast_scn", num_classes=11)
