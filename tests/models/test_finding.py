"""Roles of modules that nobody described, against what the same networks say of themselves."""

from __future__ import annotations

import pytest
import torch
from networks import build, image
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models.own import OwnNetwork
from segkd.roles import resolve_role, roles_of

ALL = ("classifier", "head", "backbone", "stages")
#: network -> the roles in which searching comes to the same as its own description
SAME = {
    "cgnet": ALL,
    "enet": ALL,
    "erfnet": ALL,
    "linknet": ALL,
    "stdc1": ALL,
    "swiftnet_rn18": ALL,
    "ddrnet23_slim": ("classifier", "head", "backbone"),
    "bisenetv1": ("classifier", "head", "backbone"),
    "fanet18": ("classifier", "head", "backbone"),
    "unet": ("classifier", "head", "backbone"),
    "fast_scnn": ("classifier", "head"),
    "smp_deeplabv3plus": ("classifier", "head", "backbone"),
    "light_fpn_mobilenetv2_100": ("classifier", "head", "backbone"),
}


@pytest.mark.parametrize("label", SAME)
def test_what_is_found_is_what_the_network_says(label: str) -> None:
    network = build(label).eval()
    x = network.preprocess(image(64, 96))
    declared = roles_of(network)
    network.roles = {}
    found = roles_of(OwnNetwork(network, network.num_classes), x)
    for role in SAME[label]:
        path = declared[role]
        assert found[role] == (f"module.{path}" if isinstance(path, str) else [f"module.{one}" for one in path]), role
    stages, backbone = found["stages"], found["backbone"]
    assert len(stages) >= 3
    assert stages[-1] == backbone


def test_stages_hide_no_stage_that_is_declared_but_another_of_its_stride() -> None:
    network = build("light_fpn_mobilenetv2_100").eval()
    declared = roles_of(network)["stages"]
    x = network.preprocess(image(64, 96))
    network.roles = {}
    found = roles_of(OwnNetwork(network, network.num_classes), x)["stages"]
    assert found == ["module.encoder.blocks.0", *(f"module.{path}" for path in declared)]  # and stride 2


class Sum(nn.Module):
    """Two classifiers whose scores are added."""

    def __init__(self, declared: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(cin, 8, 3, 2, 1) for cin in (3, 8, 8))
        self.fine, self.deep = nn.Conv2d(8, 5, 1), nn.Conv2d(8, 5, 1)
        if declared:
            self.roles = {"head": "layers.2", "stages": ["layers.1", "layers.2"]}

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for layer in self.layers:
            x = layer(x).relu()
            maps.append(x)
        return self.fine(maps[1]) + F.interpolate(self.deep(x), maps[1].shape[-2:])


class Aux(nn.Module):
    """An auxiliary classifier that runs last and gives as many channels; the answer is in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d((2, 3))
        self.main, self.aux = nn.Sequential(nn.Dropout(), nn.Conv2d(16, 5, 1)), nn.Conv2d(16, 5, 1)
        self.up = nn.Upsample(scale_factor=4, mode="bilinear")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.body(x)
        x = x + F.interpolate(self.pool(x), x.shape[-2:])
        out = self.up(self.main(x))
        return {"out": out, "aux": self.aux(x)}


X = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_scores_that_are_a_sum_have_no_classifier() -> None:
    network = OwnNetwork(Sum(), 5)
    assert set(roles_of(network, X)) == {"logits", "backbone", "stages"}
    with pytest.raises(UserError, match=r"OwnNetwork does not say .*'@head'; it has @logits, @backbone, @stages: take"):
        resolve_role(network, "@head", X)
    assert resolve_role(network, "@stages", X) == [f"module.layers.{k}" for k in (0, 1, 2)]


def test_a_module_may_say_its_own_roles() -> None:
    network = OwnNetwork(Sum(declared=True), 5)
    assert resolve_role(network, "@head", X) == ["module.layers.2"]
    assert resolve_role(network, "@stages", X) == ["module.layers.1", "module.layers.2"]
    assert resolve_role(network, "@backbone", X) == ["module.layers.2"]


def test_the_classifier_is_that_of_the_answer_and_lies_before_the_resize() -> None:
    network = OwnNetwork(Aux(), 5)
    assert resolve_role(network, "@classifier", X) == ["module.main.1"]
    assert resolve_role(network, "@head", X) == ["module.main.1@input"]
    assert resolve_role(network, "@stages", X) == ["module.body.1", "module.body"]
    assert resolve_role(network, "@stages_preact", X) == ["module.body.1@input", "module.body.3@input"]


def test_a_network_whose_size_stays_has_no_stages() -> None:
    network = OwnNetwork(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1)), 5)
    assert roles_of(network, X) == {"logits": "", "classifier": "module.2", "head": "module.2@input"}


def test_searching_leaves_the_train_flags() -> None:
    module = Aux().train()
    module.aux.eval()
    network = OwnNetwork(module, 5)
    roles_of(network, X)
    assert module.main.training
    assert not module.aux.training
    assert all(not layer._forward_hooks for layer in module.modules())
