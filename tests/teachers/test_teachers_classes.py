"""The data's classes among a teacher's: against sums of probabilities in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.models import Network, Preprocess, create
from segkd.roles import roles_of
from segkd.taps import read_taps, tap
from segkd.teachers.classes import PickedClasses, with_classes

NAMES = ["void", "Road", "car", "bus", "traffic_light"]


class Fixed(Network):
    """Logits that a 1x1 convolution makes, times a buffer of its own."""

    def __init__(self, names: list[str] | None = NAMES) -> None:
        super().__init__(5, Preprocess((0, 0, 0), (1, 1, 1)))
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, 5, 1)
        self.register_buffer("gain", torch.tensor(3.0))
        self.class_names = names

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x) * self.gain
        return out


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("classes", "groups", "names"),
    [
        (["car", "road"], [[2], [1]], ["car", "road"]),
        (["Traffic Light", "bus", "car", "road"], [[4], [3], [2], [1]], ["Traffic Light", "bus", "car", "road"]),
        ({"street": "road", "vehicle": ["car", "bus"]}, [[1], [2, 3]], ["street", "vehicle"]),
        ({"vehicle": ["bus", 2], "light": 4}, [[3, 2], [4]], ["vehicle", "light"]),
        ([4, [2, 3], 1], [[4], [2, 3], [1]], ["traffic_light", "car+bus", "Road"]),
        ([[0, 1], [2, 3, 4]], [[0, 1], [2, 3, 4]], ["void+Road", "car+bus+traffic_light"]),
    ],
)
def test_probabilities_are_added(classes: Any, groups: list[list[int]], names: list[str], x: Tensor) -> None:
    network = Fixed().double().eval()
    picked = with_classes(network, classes)
    all_of = torch.softmax(network(x), 1)
    sums = torch.stack([sum(all_of[:, i] for i in group) for group in groups], 1)  # type: ignore[misc]
    expected = sums / sums.sum(1, keepdim=True)
    torch.testing.assert_close(torch.softmax(picked(x), 1), expected, rtol=1e-12, atol=1e-12)
    for k, group in enumerate(groups):
        if len(group) == 1:
            assert torch.equal(picked(x)[:, k], network(x)[:, group[0]])
    assert picked.num_classes == len(groups)
    assert picked.class_names == names


def test_large_logits_stay_finite() -> None:
    picked = with_classes(Fixed(), [[0, 1], 2])
    with torch.no_grad():
        picked._network.gain.fill_(1e4)  # type: ignore[operator,union-attr]
        assert picked(torch.randn(1, 3, 4, 4)).isfinite().all()


def test_layers_keep_their_paths_and_follow_dtype_and_mode(x: Tensor) -> None:
    network = Fixed()
    picked = with_classes(network, [1, 2])
    assert isinstance(picked, PickedClasses)
    picked.double().eval()
    assert not network.training
    assert network.gain.dtype == torch.float64  # which is no part of a layer
    with tap(picked, ["head", ""]) as features:
        out = picked(x)
    assert features["head"].shape[1] == 5
    assert torch.equal(features[""], out)
    assert out.dtype == torch.float64
    assert picked.preprocess is network.preprocess


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["road", "cat"], "the teacher gives no class 'cat'; did you mean 'car'"),
        ({"animal": ["cat"], "a": 1}, r"gives no class 'cat' \(for 'animal'\); did you mean 'car'"),
        ({"road": [], "car": "car"}, "nothing of the teacher gives 'road'"),
        ([1, 5], "no output 5 for 'class 1'; they are 0 to 4"),
        ([1, -1], "no output -1 for 'class 1'"),
        ([1, 2.5], "a name or a number, got 2.5"),
        ([1, True], "a name or a number, got True"),
        ([1, [1, 2]], "output 1 of the teacher is asked for twice"),
        ("road", "classes= is a list of the data's class names"),
        ([], "classes= is a list"),
        (3, "classes= is a list"),
    ],
)
def test_mistakes(classes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_classes(Fixed(), classes)


def test_names_that_are_not_known() -> None:
    with pytest.raises(UserError, match=r"names of the teacher's outputs are not known, so say the number of 'road'"):
        with_classes(Fixed(None), ["road", "car"])
    assert with_classes(Fixed(None), {"road": 1, "car": 2}).class_names == ["road", "car"]
    with pytest.raises(UserError, match="gives 2 times a class 'road'"):
        with_classes(Fixed(["road", "Road", "a", "b", "c"]), ["road", "a"])


def test_roles_are_those_of_the_network_inside_but_for_the_classifier() -> None:
    inner = create("fast_scnn", num_classes=4).eval()
    picked = with_classes(inner, [2, 0])
    x = torch.zeros(1, 3, 64, 96)
    roles = roles_of(inner, x) | {"classifier": ""}
    assert roles_of(picked, x) == roles
    assert read_taps(picked, [""], x)[""].shape == (1, 2, 64, 96)
