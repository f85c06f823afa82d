from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.deploy.pooling import MatrixPooling, pooling_matrix


@pytest.mark.parametrize("size", [(16, 16), (45, 60), (13, 29), (6, 7), (3, 4)])
@pytest.mark.parametrize("grid", [(2, 2), (3, 3), (6, 6), (1, 5), (4, 1), (7, 11)])
def test_two_matrices_are_adaptive_pooling(size: tuple[int, int], grid: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, columns = (pooling_matrix(n, g, torch.float64) for n, g in zip(size, grid, strict=True))
    torch.testing.assert_close(rows @ x @ columns.T, F.adaptive_avg_pool2d(x, grid), rtol=1e-13, atol=1e-13)


def test_windows_of_16_rows_in_6_bins() -> None:
    assert (pooling_matrix(16, 6) > 0).sum(1).tolist() == [3, 4, 3, 3, 4, 3]


class Pools(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.square = nn.AdaptiveAvgPool2d(6)
        self.pair = nn.Sequential(nn.AdaptiveAvgPool2d((3, None)))
        self.mean = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(x, output_size=(2, 5))
        parts = [self.square(x), self.pair(x), self.mean(x), y, self.square(x[..., 1:, 2:])]
        return torch.cat([part.flatten(1) for part in parts], 1)


def test_every_way_to_call_is_replaced_and_equal() -> None:
    x = torch.randn(2, 4, 17, 23, dtype=torch.float64)
    network = Pools()
    exact = MatrixPooling(network, x)
    torch.testing.assert_close(exact(x), network(x), rtol=1e-6, atol=1e-6)  # the matrices are float32
    names = dict(exact.named_buffers())
    assert {"pooling_rows_17_to_6", "pooling_columns_23_to_23", "pooling_rows_16_to_6"} <= set(names)
    assert not any(name.endswith("_to_1") for name in names)
    traced = torch.export.export(exact, (x,), strict=False).graph_module.code
    assert traced.count("adaptive_avg_pool2d.default") == 1  # the mean
    assert traced.count("aten.matmul.default") == 8
    assert list(network.state_dict()) == []  # the network is as it was
    torch.testing.assert_close(network(x), Pools()(x))
