"""Resolving roles: the text, what is declared, maps before their activation, pairing stages, and every mistake."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from segkd.errors import UserError
from segkd.roles import is_role, pair_stages, resolve_role, roles_of
from segkd.taps import read_taps

X = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Three maps: rectified in place, summed in place after its ReLU, rectified in the forward."""

    roles: dict[str, Any] = {"backbone": "c", "stages": ("a", "b", "c")}

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.act = nn.SiLU()
        self.c = nn.Conv2d(8, 8, 3, 2, 1)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.act(self.a(x)))
        x = self.act(self.c(x))
        out: Tensor = self.classifier(self.dropout(x))
        return out


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("@head", True),
        ("@stages", True),
        ("@stages[-1]", True),
        ("@stages[0]", True),
        ("@head_preact", True),
        ("@stages_preact[1]", True),
        ("@nonsense", True),
        ("@input", False),
        ("layer1@input", False),
        ("@input#-1", False),
        ("layer4", False),
        ("", False),
        ("@", False),
        ("head", False),
    ],
)
def test_what_a_role_looks_like(text: str, answer: bool) -> None:
    assert is_role(text) is answer


def test_declared_roles_and_those_that_need_no_word() -> None:
    network = Net()
    assert roles_of(network) == {
        "logits": "",
        "classifier": "classifier",
        "head": "classifier@input",
        "backbone": "c",
        "stages": ["a", "b", "c"],
    }
    for text, paths in {
        "@logits": [""],
        "@head": ["classifier@input"],
        "@stages": ["a", "b", "c"],
        "@stages[0]": ["a"],
        "@stages[-1]": ["c"],
        "@stages[-3]": ["a"],
    }.items():
        assert resolve_role(network, text, X) == paths


def test_the_map_before_its_activation() -> None:
    """In place, behind a dropout, of a layer that runs twice; a convolution alone is its own."""
    network = Net().train()
    assert resolve_role(network, "@stages_preact", X) == ["a.2@input", "b", "c"]
    assert resolve_role(network, "@stages_preact[0]", X) == ["a.2@input"]
    assert resolve_role(network, "@backbone_preact", X) == ["c"]
    assert resolve_role(network, "@head_preact", X) == ["act@input#-1"]
    assert network.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    seen = read_taps(network, ["a", "a.2@input", "classifier@input", "act@input#-1"], X)
    assert torch.equal(seen["a.2@input"].relu(), seen["a"])
    assert torch.equal(F.silu(seen["act@input#-1"]), seen["classifier@input"])
    assert seen["a.2@input"].min() < 0


def test_a_layer_that_runs_several_times_is_named_by_its_call() -> None:
    class Shared(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.a(x))
            x = self.act(self.b(x)) + 1
            return self.classifier(self.act(x))  # type: ignore[no-any-return]

    network = Shared()
    network.roles = {"head": "act#0", "backbone": "act#1", "stages": ["act#0", "act#-1"]}
    assert resolve_role(network, "@head_preact", X) == ["act@input#0"]
    assert resolve_role(network, "@backbone_preact", X) == ["act@input#1"]
    assert resolve_role(network, "@stages_preact", X) == ["act@input#0", "act@input#-1"]


def test_blocks_of_torchvision() -> None:
    """Its ResNets add in place, and run one ReLU in place twice a block."""
    network = resnet18(weights=None).eval()
    network.roles = {"stages": [f"layer{k}" for k in (1, 2, 3, 4)], "head": "layer4", "classifier": "fc"}
    paths = resolve_role(network, "@stages_preact", X)
    assert paths == [f"layer{k}.1.relu@input#-1" for k in (1, 2, 3, 4)]
    seen = read_taps(network, [*paths, "layer1", "layer4", "layer4.1.bn2", "layer4.0"], X)
    assert torch.equal(seen[paths[0]].relu(), seen["layer1"])
    assert torch.equal(seen[paths[3]], seen["layer4.1.bn2"] + seen["layer4.0"])


def test_what_changed_in_place_after_its_activation_was_not_made_by_it() -> None:
    class Adds(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            x -= 1
            return self.classifier(self.dropout(x))  # type: ignore[no-any-return]

    assert resolve_role(Adds(), "@head_preact", X) == ["classifier@input"]


class Functional(Net):
    """Rectifies by a function what the classifier reads."""

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.c(self.a(x))))  # type: ignore[no-any-return]


def test_a_map_rectified_outside_of_layers_is_refused_or_declared() -> None:
    network = Functional()
    with pytest.raises(
        UserError, match=r"Functional rectifies the map 'classifier@input' in its forward.*without '_pre"
    ):
        resolve_role(network, "@head_preact", X)
    network.roles = {**Net.roles, "head_preact": "c", "stages_preact": ["a.2@input", "b", "c"]}
    assert resolve_role(network, "@head_preact", X) == ["c"]
    assert resolve_role(network, "@stages_preact[1]", X) == ["b"]


def test_activations_of_others_are_known_by_name() -> None:
    class QuickGELU(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(1.702 * x)

    network = Net()
    network.act = QuickGELU()  # type: ignore[assignment]
    assert resolve_role(network, "@head_preact", X) == ["act@input#-1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@backbon", r"there is no role '@backbon'; did you mean '@backbone'"),
        ("@stage[1]", r"there is no role '@stage\[1\]'; did you mean '@stages'"),
        ("@logits_preact", r"there is no role '@logits_preact'"),
        ("head", r"there is no role 'head'"),
        ("@head[0]", r"'@head\[0\]': only stages are several, write '@head'"),
        ("@stages[3]", r"'@stages\[3\]': Net has 3 stages, \[0\] to \[2\] \(or \[-1\] for the deepest\): a, b, c"),
        ("@stages_preact[-4]", r"Net has 3 stages"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_role(Net(), text, X)


def test_a_role_that_the_network_has_not() -> None:
    network = Net()
    network.roles = {"head": ()}
    with pytest.raises(UserError, match=r"Net does not say .*'@stages'; it has @logits, @classifier: take .*'layer4'"):
        resolve_role(network, "@stages", X)
    with pytest.raises(UserError, match=r"does not say which of its layers is '@head'"):
        resolve_role(network, "@head_preact", X)
    with pytest.raises(UserError, match=r"Linear does not say .*it has @logits: take"):
        resolve_role(nn.Linear(3, 4), "@classifier", X)


def test_a_declared_layer_that_does_not_run_is_named() -> None:
    network = Functional()
    network.roles = {"backbone": "b", "stages": ["a", "nowhere"]}
    with pytest.raises(UserError, match=r"tap 'b' of Functional did not run"):
        resolve_role(network, "@backbone_preact", X)
    with pytest.raises(UserError, match=r"Functional has no layer 'nowhere'"):
        resolve_role(network, "@stages_preact", X)


def test_stages_are_paired_from_the_deepest() -> None:
    assert pair_stages(["a", "b", "c"], ["1", "2", "3", "4"]) == (["a", "b", "c"], ["2", "3", "4"])
    assert pair_stages(["a", "b", "c"], ["1"]) == (["c"], ["1"])
    assert pair_stages(["a"], ["1"]) == (["a"], ["1"])
    with pytest.raises(UserError, match="only be paired where both have some"):
        pair_stages(["a"], [])
