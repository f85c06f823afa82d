"""The same labels in ten formats, read as the same bits; training on each gives the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import own_trees
import pytest
import torch
from torch import nn

import segkd
from segkd.datasets import create


@pytest.mark.parametrize("kind", own_trees.FORMATS)
def test_all_formats_give_the_labels_that_are_known(tmp_path: Path, kind: str) -> None:
    data = create("folder", **own_trees.write(tmp_path / kind, kind))
    assert tuple(data.class_names) == own_trees.NAMES
    assert [data.name_of(k) for k in range(20)] == [own_trees.name(k) for k in range(20)]
    for k in range(20):
        np.testing.assert_array_equal(data.label_of(k), own_trees.truth(own_trees.scene(k)))
    image, label = data[7]
    assert image.shape[:2] == label.shape


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The student's weights after two steps on each format."""
    found = {}
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    for kind in own_trees.FORMATS:
        arguments = own_trees.write(tmp_path / kind, kind)
        out = tmp_path / f"run_{kind}"
        segkd.train(
            network,
            data={"type": "folder", **arguments},
            size=(32, 64),
            steps=2,
            batch=2,
            workers=0,
            out=out,
            preflight=False,
        )
        found[kind] = torch.load(out / "student_last.pth", weights_only=True)
    return found


@pytest.mark.filterwarnings("ignore:.*cannot hold model.network")
def test_all_formats_train_to_bit_equal_weights(weights: dict[str, dict[str, torch.Tensor]]) -> None:
    first = weights.pop("ids")
    for own in weights.values():
        assert own.keys() == first.keys()
        assert all(torch.equal(own[key], first[key]) for key in first)
