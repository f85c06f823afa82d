"""Connectors: channel counts come from the probe, weights from torch's default, randomness stays in step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segkd.connectors import CONNECTORS, Connector, Conv1x1
from segkd.errors import UserError

STUDENT, TEACHER = (2, 6, 5, 7), (2, 10, 3, 4)


def prepared(cfg, student=STUDENT, teacher=TEACHER) -> Connector:
    connector = CONNECTORS.build(cfg)
    connector.prepare(student, teacher)
    return connector


def test_counts_are_probed_and_the_map_keeps_its_size():
    connector = prepared({"type": Conv1x1})
    feature = torch.randn(3, 6, 9, 4)
    out = connector(feature, like=torch.randn(3, 10, 2, 2))
    assert out.shape == (3, 10, 9, 4)
    weight = dict(connector.named_parameters())["layers.0.weight"]
    want = torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], feature)
    torch.testing.assert_close(out, want)
    assert len(list(connector.parameters())) == 1


def test_by_name_and_with_bias_and_norm():
    assert CONNECTORS.names() == ["conv1x1"]
    connector = prepared({"type": "conv1x1", "bias": True, "norm": True})
    assert {name for name, _ in connector.named_parameters()} == {
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
    }
    assert any(isinstance(module, nn.BatchNorm2d) for module in connector.modules())
    out = connector(torch.randn(4, 6, 5, 5))
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(10), atol=1e-5, rtol=0)


def test_gradient_reaches_feature_and_weight():
    connector = prepared({"type": Conv1x1})
    feature = torch.randn(*STUDENT, requires_grad=True)
    connector(feature).square().sum().backward()
    assert feature.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in connector.parameters())


def test_preparing_leaves_the_random_stream_and_follows_the_seed():
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    first = prepared({"type": Conv1x1})
    torch.testing.assert_close(torch.rand(3), want, rtol=0, atol=0)
    torch.manual_seed(5)
    second = prepared({"type": Conv1x1})
    torch.manual_seed(6)
    third = prepared({"type": Conv1x1})
    (a,), (b,), (c,) = first.parameters(), second.parameters(), third.parameters()
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_second_prepare_changes_nothing_for_the_same_channels():
    connector = prepared({"type": Conv1x1})
    (before,) = connector.parameters()
    connector.prepare((1, 6, 64, 128), (1, 10, 8, 8))
    (after,) = connector.parameters()
    assert before is after
    with pytest.raises(UserError, match=r"out_channels=10.*has 12"):
        connector.prepare(STUDENT, (1, 12, 8, 8))


def test_given_counts_need_no_probe():
    assert Conv1x1(in_channels=6, out_channels=10)(torch.randn(STUDENT)).shape == (2, 10, 5, 7)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="prepare"):
        Conv1x1()(torch.randn(STUDENT))
    with pytest.raises(UserError, match=r"in_channels=7.*has 6"):
        prepared({"type": Conv1x1, "in_channels": 7})
    with pytest.raises(UserError, match=r"\(N, 6, H, W\)"):
        prepared({"type": Conv1x1})(torch.randn(TEACHER))
    with pytest.raises(UserError, match=r"teacher.*\(2, 10\)"):
        prepared({"type": Conv1x1}, STUDENT, (2, 10))
    with pytest.raises(UserError, match="'conv1x1'"):
        CONNECTORS.create("conv1x")


def test_a_single_position_is_normalised_by_the_running_statistics():
    connector = prepared({"type": Conv1x1, "norm": True}).train()
    connector(torch.randn(4, 6, 5, 5))
    before = {name: value.clone() for name, value in connector.state_dict().items()}
    feature = torch.randn(1, 6, 1, 1, requires_grad=True)
    out = connector(feature)
    torch.testing.assert_close(out, connector.eval()(feature))
    assert all(torch.equal(value, before[name]) for name, value in connector.state_dict().items())
    out.square().sum().backward()
    assert feature.grad.abs().sum() > 0
    connector.train()(torch.randn(1, 6, 1, 2))  # two positions have a variance
    assert not torch.equal(connector.layers[1].running_var, before["layers.1.running_var"])
