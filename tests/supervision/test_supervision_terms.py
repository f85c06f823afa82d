"""Terms of a network: heads on taps, gates between terms, strides, and what a config gets wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models import Network
from segkd.supervision import (
    OHEM,
    TERM_KEYS,
    AuxHead,
    BoundaryAwareCE,
    BoundaryBCE,
    BoundaryHead,
    CrossEntropy,
    DetailLoss,
    Supervision,
    shrink_label,
)
from segkd.training.overrides import optional_keys, override

PROBE = torch.zeros(1, 3, 48, 64)
#: As in PIDNet: an auxiliary head, a boundary head, and a second loss on the logits that the boundary gates.
TERMS: dict[str, Any] = dict(
    main=dict(loss=dict(type=OHEM, threshold=0.9, min_kept=100, select="probability")),
    aux=dict(tap="stem", head=dict(type=AuxHead, middle=6, norm_first=True), weight=0.4),
    boundary=dict(tap="stem", head=dict(type=BoundaryHead, middle=4), loss=dict(type=BoundaryBCE), weight=20.0),
    aware=dict(loss=dict(type=BoundaryAwareCE, threshold=0.5), gate="boundary"),
)


class Tiny(Network):
    """Two convolutions at stride 4."""

    def __init__(self) -> None:
        super().__init__(5)
        self.stem = nn.Conv2d(3, 8, 3, 4, 1)
        self.classifier = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.classifier(self.stem(x)), size=x.shape[-2:], mode="bilinear")


def made(terms: dict[str, Any]) -> Supervision:
    torch.manual_seed(0)
    return Supervision(terms, Tiny(), PROBE)


def given() -> tuple[Tensor, dict[str, Tensor], Tensor]:
    torch.manual_seed(1)
    label = torch.randint(0, 5, (2, 6, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    label[:, :3] = 255
    return torch.randn(2, 5, 48, 64), {"stem": torch.randn(2, 8, 12, 16)}, label


def test_a_gate_is_the_output_of_the_other_term() -> None:
    supervision = made(TERMS).eval()
    logits, features, label = given()
    terms = supervision(logits, features, label)
    assert list(terms) == ["loss_main", "loss_aux", "loss_boundary", "loss_aware"]
    seen = supervision.heads["boundary"](features["stem"])
    assert seen.shape == (2, 1, 12, 16)
    seen = F.interpolate(seen, size=(48, 64), mode="bilinear")
    want = CrossEntropy()(logits, label.masked_fill(seen[:, 0].sigmoid() <= 0.5, 255))
    assert 0 < (seen[:, 0].sigmoid() > 0.5).float().mean() < 1
    torch.testing.assert_close(terms["loss_aware"], want)
    torch.testing.assert_close(terms["loss_boundary"], 20 * BoundaryBCE()(seen, label))


def test_every_head_is_trained_by_its_own_term() -> None:
    supervision = made(TERMS)
    logits, features, label = given()
    terms = supervision(logits.requires_grad_(), features, label)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in supervision.heads.parameters())
    own = torch.autograd.grad(
        supervision(logits, features, label)["loss_aware"], list(supervision.heads.parameters()), allow_unused=True
    )
    assert all(g is None for g in own)


def test_a_gated_term_keeps_its_own_stride() -> None:
    """The gate meets the logits at the stride of the term that it gates, whatever its own term's is."""
    terms = dict(TERMS, aware=dict(TERMS["aware"], stride=2), boundary=dict(TERMS["boundary"], stride=4))
    supervision = made(terms).eval()
    logits, features, label = given()
    seen = F.interpolate(supervision.heads["boundary"](features["stem"]), size=(24, 32), mode="bilinear")
    small = F.interpolate(logits, size=(24, 32), mode="bilinear")
    target = shrink_label(label, 2).masked_fill(seen[:, 0].sigmoid() <= 0.5, 255)
    torch.testing.assert_close(supervision(logits, features, label)["loss_aware"], CrossEntropy()(small, target))
    quarter = supervision.heads["boundary"](features["stem"])
    want = 20 * BoundaryBCE()(quarter, shrink_label(label, 4))
    torch.testing.assert_close(supervision(logits, features, label)["loss_boundary"], want)


def test_the_order_of_terms_does_not_matter() -> None:
    logits, features, label = given()
    first = made(dict(TERMS)).eval()
    last = made(dict(TERMS)).eval()
    last.load_state_dict(first.state_dict())
    turned = made(dict(reversed(TERMS.items()))).eval()
    turned.load_state_dict(first.state_dict())
    a, b = first(logits, features, label), turned(logits, features, label)
    assert {k: v.item() for k, v in a.items()} == pytest.approx({k: v.item() for k, v in b.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(aware=dict(TERMS["aware"], gate="boundry")), "'aware': gate 'boundry' is no other term.*'boundary'"),
        (dict(aware=dict(TERMS["aware"], gate="aware")), "'aware': gate 'aware' is no other term"),
        (dict(aware=dict(TERMS["aware"], gate=["boundary"])), "gate must be the name of a term"),
        (dict(aware=dict(loss=dict(type=BoundaryAwareCE))), "'aware': BoundaryAwareCE needs gate="),
        (dict(main=dict(gate="boundary")), "'main': CrossEntropy takes no gate"),
        (dict(main=dict(gates="boundary")), "no key 'gates'"),
        (dict(main=dict(loss=dict(type="segkd.supervision.OHEN"))), "did you mean 'OHEM'"),
        (dict(main=dict(loss=dict(type=OHEM, treshold=0.7))), "no argument 'treshold'.*'threshold'"),
        (dict(aux=dict(tap="stem", head=dict(type=AuxHead, midle=3))), "no argument 'midle'.*'middle'"),
        (dict(main=dict(loss=dict(type=CrossEntropy, class_weight=[1, 2]))), "'main': .* of 2 factors, .* 5 classes"),
        (dict(main=dict(loss=dict(type=OHEM, class_weight=[1.0] * 6))), "'main': OHEM has a class_weight of 6 factors"),
        (dict(aux=dict(TERMS["aux"], loss=dict(type=CrossEntropy, class_weight=[1.0] * 4))), "'aux': .* 4 factors"),
        (
            dict(aware=dict(TERMS["aware"], loss=dict(type=BoundaryAwareCE, loss=CrossEntropy(class_weight=[1.0])))),
            "'aware': CrossEntropy has a class_weight of 1 ",
        ),
        (dict(main=dict(loss=nn.CrossEntropyLoss(torch.ones(3)))), "CrossEntropyLoss has a weight of 3 factors"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(dict(TERMS, **change))


@pytest.mark.parametrize("loss", [BoundaryBCE, DetailLoss])
def test_a_boundary_loss_on_class_logits_names_the_head(loss: type[nn.Module]) -> None:
    with pytest.raises(UserError, match=r"got 5; use head=dict\(type=BoundaryHead\)"):
        made(dict(main=dict(loss=dict(type=loss))))(*given())


def test_a_gate_with_class_logits_is_named() -> None:
    supervision = made(dict(main={}, aware=dict(loss=dict(type=BoundaryAwareCE), gate="main")))
    with pytest.raises(UserError, match="BoundaryAwareCE's gate takes one logit a pixel, got 5"):
        supervision(*given())


def test_the_command_line_may_name_a_gate() -> None:
    assert optional_keys()["model.supervision.*"] == set(TERM_KEYS)
    cfg: dict[str, Any] = dict(model=dict(supervision=dict(aware=dict(loss=dict(type=BoundaryAwareCE)))))
    override(cfg, "model.supervision.aware.gate=boundary")
    assert cfg["model"]["supervision"]["aware"]["gate"] == "boundary"
