"""What every network keeps to. Students here, at small sizes; all networks at large ones in test_networks_full.py."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from networks import CLASSES, NAMED, STUDENTS, build, image, refused_where_torch_fails, results
from sampling import sampled
from torch import Tensor, nn

from segkd.deploy.onnx import export_onnx
from segkd.errors import UserError
from segkd.models import NETWORKS, Network
from segkd.models.catalogue import catalogue, counted
from segkd.roles import roles_of


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a network was built without pretrained=True and opened a connection")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(params=list(STUDENTS), scope="module")
def label(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(label: str) -> Network:
    return build(label).eval()


def outputs_of(network: Network, x: Tensor) -> dict[str, list[Tensor]]:
    """What the layers of ``feature_info`` put out, read with hooks made here."""
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


@pytest.mark.parametrize("size", [(127, 253), (33, 32)])
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
        size = (-(-64 // info.stride), -(-96 // info.stride))
        assert seen[info.path][0].shape == (1, info.channels, *size), info.path


def test_no_name_of_torch_is_hidden(network: Network) -> None:
    """ESPNet's authors keep a list in ``self.modules``: ``network.modules()`` then fails."""
    own = set(vars(nn.Module()))
    for path, module in network.named_modules():
        names = {*vars(module), *module._modules, *module._parameters, *module._buffers} - own
        assert not {name for name in names if hasattr(nn.Module, name)}, path


def test_training_step_reaches_every_parameter(label: str) -> None:
    network = build(label).train()
    logits = network.predict(image(64, 96, batch=2))
    assert logits.shape == (2, CLASSES, 64, 96)
    nn.functional.cross_entropy(logits, torch.randint(0, CLASSES, (2, 64, 96))).backward()
    idle = [path for path, p in network.named_parameters() if p.grad is None]
    assert not idle
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_trains_at_sizes_that_nothing_divides(label: str) -> None:
    network = build(label).train()
    logits = network.predict(image(45, 71, batch=2))
    assert logits.shape == (2, CLASSES, 45, 71)
    logits.mean().backward()


def test_image_and_sample_do_not_leak_into_others(network: Network) -> None:
    """In eval a sample's logits depend on that sample alone, and the network keeps no state."""
    pair = torch.cat([image(32, 64), image(32, 64).flip(3)])
    with torch.no_grad():
        both, first = network.predict(pair), network.predict(pair[:1])
    assert (both[:1] - first).abs().max() <= 1e-4 * first.abs().max()


def test_batch_of_one_trains_or_says_why_not(label: str) -> None:
    network = build(label).train()
    for size in [(32, 32), (32, 64), (64, 64)]:
        refused_where_torch_fails(network, size)
    assert network.eval().predict(image(32, 32)).shape == (1, CLASSES, 32, 32)


def test_another_error_of_a_network_stays_as_it_is() -> None:
    class Fails(Network):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("of its own")

    with pytest.raises(ValueError, match=r"^of its own$"):
        Fails(num_classes=3)(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("label", NAMED, scope="module")
def test_weights_round_trip(label: str, network: Network, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    with torch.no_grad():
        network.preprocess.mean.add_(0.01)  # type: ignore[operator]
    torch.save(network.state_dict(), file)
    again = build(label, weights=file).eval()
    with torch.no_grad():
        assert torch.equal(again.predict(image(32, 48)), network.predict(image(32, 48)))


def test_weights_of_another_network(label: str, tmp_path: Path) -> None:
    """Every network reads its weights; a file of another one is named."""
    file = tmp_path / "other.pth"
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3)).state_dict(), file)
    with pytest.raises(UserError, match=r"other\.pth holds weights of another network .*lacks '.+'.*; \d+ missing"):
        build(label, weights=file)


@pytest.mark.parametrize("label", NAMED, scope="module")
def test_weights_of_another_class_count(label: str, network: Network, tmp_path: Path) -> None:
    file = tmp_path / "eleven.pth"
    torch.save(network.state_dict(), file)
    with pytest.raises(UserError, match=r"does not fit .* \(11,.*in the file, \(13,|is \(.*11.*\) in the file"):
        build(label, num_classes=13, weights=file)


def test_missing_weights_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights file not found: .*nowhere\.pth"):
        build("fast_scnn", weights=tmp_path / "nowhere.pth")


EXPORTED = ("espnet",)  # by default: PReLU with transposed convolutions; tests/deploy exports fast_scnn


@pytest.mark.parametrize("size", [pytest.param((64, 96), marks=pytest.mark.slow), (96, 70)])
@pytest.mark.parametrize(
    "label",
    [name if name in EXPORTED else pytest.param(name, marks=pytest.mark.slow) for name in NAMED],
    scope="module",
)
def test_exports_at_two_aspect_ratios(network: Network, size: tuple[int, int], tmp_path: Path) -> None:
    report = export_onnx(network, tmp_path / "net.onnx", size)  # refuses a file that differs
    assert [p.batch for p in report.parity] == [1, 3]


@pytest.mark.parametrize("name", sampled([name for name in counted(19) if name in catalogue()], 4))
def test_the_table_that_is_shipped_describes_the_network(name: str) -> None:
    """All but the MACs. Another network now? Run ``python tools/networks.py`` (and make test-full)."""
    row = counted(19)[name]
    network = catalogue()[name].on_meta(19)
    parameters = sum(p.numel() for p in network.parameters())
    assert (row["parameters"], row["kind"], row["paper"]) == (parameters, catalogue()[name].kind, network.paper)
    assert [tuple(tap.values()) for tap in row["taps"]] == [tuple(tap) for tap in network.feature_info]
    assert row["roles"] == json.loads(json.dumps(roles_of(network)))
    assert row["results"] == json.loads(json.dumps([result._asdict() for result in network.results]))
    assert results().get(name, row)["parameters"] == parameters


@pytest.mark.slow
def test_the_last_full_run_had_every_network() -> None:
    """A row missing: run make test-full."""
    assert sorted(results()) == sorted(catalogue())
    for row in results().values():
        assert {"parameters", "gmacs_512x1024", "export", "date"} <= set(row)


def test_unknown_network_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'fast_scnn'"):
        NETWORKS.create("fast_scn", num_classes=11)
