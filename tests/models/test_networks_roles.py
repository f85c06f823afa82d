"""Every network's roles against what really flows in it, read with hooks made here."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from networks import CLASSES, STUDENTS, build
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.models import Network
from segkd.models.catalogue import catalogue
from segkd.roles import is_activation, resolve_role, roles_of
from segkd.taps import TapPath, read_taps

SIZE = (64, 96)
OTHERS = [label for label in catalogue() if label not in STUDENTS]
#: the classifier reads the map resized, which is larger than the one before the activation
RESIZED = {("icnet", "head")}
#: label's beginning, role: the map joins, scales or pools what is rectified, so that it is its own
JOINED = (("stdc", "stages"), ("stdc", "backbone"), ("lraspp", "head"), ("light_fpn_shufflenet", "stages"))
JOINED += (("light_fpn_shufflenet", "backbone"),)


class Flow(NamedTuple):
    """A network, its input and output, and each tapped map with its place in the order in which they came."""

    label: str
    network: Network
    x: Tensor
    logits: Tensor
    maps: dict[str, Tensor]
    order: dict[str, int]
    preact: dict[str, list[str]]

    def role(self, text: str) -> Tensor:
        (path,) = resolve_role(self.network, text, self.x)
        return self.maps[path]

    def stride(self, path: str) -> int:
        return round(SIZE[0] / self.maps[path].shape[2])


def flow_of(label: str) -> Flow:
    network = build(label).eval()
    with torch.no_grad():
        for module in network.modules():  # a branch that starts from zero would hide what it does
            if isinstance(module, nn.BatchNorm2d) and module.weight is not None and not module.weight.any():
                module.weight.fill_(0.5)
        image = torch.randint(0, 256, (1, 3, *SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        x = network.preprocess(image)
    paths = [
        path for role in ("classifier", "head", "backbone", "stages") for path in resolve_role(network, f"@{role}", x)
    ]
    preact = {role: resolve_role(network, f"@{role}_preact", x) for role in ("head", "backbone", "stages")}
    wanted = dict.fromkeys([*paths, *(path for found in preact.values() for path in found)])
    calls: dict[str, list[tuple[int, Tensor]]] = {path: [] for path in wanted}
    handles = []
    for path in wanted:
        tap = TapPath.parse(path)
        layer = network.get_submodule(tap.path)

        def keep(value: Tensor, path: str = path) -> None:
            calls[path].append((sum(map(len, calls.values())), value.clone()))

        if tap.input:
            handles.append(layer.register_forward_pre_hook(lambda m, args, keep=keep: keep(args[0])))
        else:
            handles.append(layer.register_forward_hook(lambda m, args, out, keep=keep: keep(out)))
    with torch.no_grad():
        logits = network(x)
    for handle in handles:
        handle.remove()
    chosen = {}
    for path, seen in calls.items():
        call = TapPath.parse(path).call
        assert len(seen) == 1 or call is not None, path
        chosen[path] = seen[call or 0]
    maps = {path: value for path, (_, value) in chosen.items()}
    return Flow(label, network, x, logits, maps, {path: place for path, (place, _) in chosen.items()}, preact)


@pytest.fixture(
    params=[*STUDENTS, *(pytest.param(label, marks=[pytest.mark.slow, pytest.mark.timeout(600)]) for label in OTHERS)],
    scope="module",
)
def flow(request: pytest.FixtureRequest) -> Flow:
    return flow_of(str(request.param))


def test_each_role_is_one_map(flow: Flow) -> None:
    assert set(roles_of(flow.network, flow.x)) == {"logits", "classifier", "head", "backbone", "stages"}
    for path, value in flow.maps.items():
        assert value.dim() == 4, path
        assert len(value) == 1, path
        assert 1 <= flow.stride(path) <= 64, path


def test_the_logits_are_the_classifier_resized(flow: Flow) -> None:
    scores = flow.role("@classifier")
    assert scores.shape[1] == CLASSES
    assert resolve_role(flow.network, "@logits", flow.x) == [""]
    spread = flow.logits.std()
    ways = [F.interpolate(scores, size=SIZE, mode="bilinear", align_corners=corners) for corners in (False, True)]
    assert min((way - flow.logits).abs().max() for way in ways) <= 1e-5 * spread + 1e-6


def test_the_classifier_reads_the_head(flow: Flow) -> None:
    head = flow.role("@head").clone()
    if flow.label == "espnet":  # its decoder fuses class scores: the features are those of the encoder's classifier
        taps = read_taps(flow.network, ["encoder.classifier"], flow.x)
        assert torch.equal(flow.network.encoder.classifier(head), taps["encoder.classifier"])  # type: ignore[operator,union-attr]
        return
    with torch.no_grad():
        if getattr(flow.network, "takes_all", False):  # LR-ASPP: two classifiers, whose scores are added
            features = flow.network.backbone(flow.x)  # type: ignore[operator]
            both = flow.network.classifier
            scores = both.low_classifier(features["low"]) + both.high_classifier(head)  # type: ignore[operator,union-attr]
        else:
            (path,) = resolve_role(flow.network, "@classifier", flow.x)
            scores = flow.network.get_submodule(path)(head)
    assert torch.equal(scores, flow.role("@classifier"))


def test_stages_go_down_and_end_at_the_backbone(flow: Flow) -> None:
    stages, (backbone,) = (resolve_role(flow.network, f"@{role}", flow.x) for role in ("stages", "backbone"))
    assert len(stages) >= 2
    places, strides = [flow.order[path] for path in stages], [flow.stride(path) for path in stages]
    assert places == sorted(places)
    assert strides == sorted(strides)
    assert strides[0] <= (16 if flow.label.startswith("dpt") else 8)  # a plain transformer has one stride
    assert flow.order[backbone] >= places[-1]
    assert flow.stride(backbone) >= strides[-1]
    assert flow.order[backbone] < flow.order[resolve_role(flow.network, "@classifier", flow.x)[0]]


def test_the_activation_of_what_comes_before_is_the_map(flow: Flow) -> None:
    for role, before in flow.preact.items():
        after = resolve_role(flow.network, f"@{role}", flow.x)
        assert len(before) == len(after)
        for path, source in zip(after, before, strict=True):
            if source == path:
                continue
            layer = flow.network.get_submodule(TapPath.parse(source).path)
            with torch.no_grad():
                value = layer(flow.maps[source].clone()) if is_activation(layer) else flow.maps[source].relu()
            if (flow.label, role) in RESIZED:
                value = F.interpolate(value, flow.maps[path].shape[-2:], mode="bilinear", align_corners=True)
            assert torch.equal(value, flow.maps[path]), (path, source)


def test_a_map_without_anything_before_is_not_rectified(flow: Flow) -> None:
    """Unless the network says so: where parts are rectified one by one and then joined."""
    for role, before in flow.preact.items():
        for path in set(before) & set(resolve_role(flow.network, f"@{role}", flow.x)):
            joined = any(flow.label.startswith(label) and role == own for label, own in JOINED)
            assert joined != bool(flow.maps[path].min() < 0), path
