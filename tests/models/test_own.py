"""Modules that know nothing of segkd, and where their logits are among what they give."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.models.own import OwnNetwork, logits_of

LOGITS, OTHER = torch.randn(1, 3, 4, 5), torch.zeros(1, 9, 2, 2)


@dataclass
class Answer:
    loss: Tensor | None
    logits: Tensor


Pair = namedtuple("Pair", ["aux", "pred"])


@pytest.mark.parametrize(
    ("given", "output"),
    [
        (LOGITS, None),
        ({"aux": OTHER, "out": LOGITS}, None),
        ({"aux": OTHER, "logits": LOGITS}, None),
        ({"features": OTHER, "pred": [LOGITS, OTHER]}, None),
        ({"anything": LOGITS}, None),
        ({"aux": OTHER, "mine": LOGITS}, "mine"),
        ((LOGITS, OTHER), None),
        ([LOGITS, OTHER], None),
        ((OTHER, LOGITS), 1),
        (((LOGITS, OTHER), {}), None),
        (Answer(None, LOGITS), None),
        (Pair(OTHER, LOGITS), None),
        (Pair(LOGITS, OTHER), "aux"),
    ],
)
def test_logits_are_found(given: Any, output: Any) -> None:
    assert logits_of(given, "Net", output) is LOGITS


@pytest.mark.parametrize(
    ("given", "output", "message"),
    [
        ({"aux": OTHER, "mine": LOGITS}, None, r"its logits are not in it; there is: aux, mine; name one by .*output="),
        ({"aux": OTHER, "mine": LOGITS}, "mien", "'mien' is not in it; did you mean 'mine'"),
        ((OTHER, LOGITS), 2, "gives no output 2 but tuple"),
        ({1: OTHER}, None, "keys are no names: 1"),
    ],
)
def test_logits_that_are_not_there(given: Any, output: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        logits_of(given, "Net", output)


class Quarter(nn.Module):
    """Logits at a quarter of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, 3, 4, stride=4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.model(x)}


def test_the_modules_own_file_and_ours_both_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Quarter()
    torch.save({"state_dict": nn.DataParallel(module).state_dict()}, tmp_path / "own.pth")
    torch.save(OwnNetwork(module, 3).state_dict(), tmp_path / "ours.pth")
    x = torch.randn(1, 3, 97, 131)
    expected = nn.functional.interpolate(module(x)["logits"], size=(97, 131), mode="bilinear")
    for file in ("own.pth", "ours.pth"):
        network = OwnNetwork(dict(type=Quarter), 3, weights=tmp_path / file)
        torch.testing.assert_close(network(x), expected)
    with pytest.raises(UserError, match=r"must give logits \(N, 4, h, w\).*; it gave \(1, 3, 24, 32\)"):
        OwnNetwork(module, 4)(x)
