"""Which samples the relation losses take, and what masks and processes make of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from processes import two_processes
from torch import distributed

from segkd import losses
from segkd.errors import UserError
from segkd.losses.relation import RelationLoss

SHAPE = (3, 4, 5, 6)


class Seen(RelationLoss):
    """Keeps the samples that it is given; its value is their student's sum."""

    def relation(self, student, teacher):
        self.seen = (student, teacher)
        return student.sum()


def maps():
    return torch.randn(SHAPE, dtype=torch.float64), torch.randn(3, 2, 5, 6, dtype=torch.float64)


def test_pixels_are_drawn_from_the_valid_positions():
    s, t = maps()
    valid = torch.zeros(3, 5, 6, dtype=torch.bool)
    valid[0, 1:3], valid[2, 4, 5] = True, True
    loss = Seen("pixels", 8, None)
    loss(s, t, draw=loss.sample(SHAPE, seed=1), valid=valid)
    got_s, got_t = loss.seen
    assert got_s.shape == (9, 4)
    assert got_t.shape == (9, 2)
    everything = torch.cat([s, t], 1).permute(0, 2, 3, 1)
    allowed = {tuple(row.tolist()) for row in everything[valid]}
    assert {tuple(row) for row in torch.cat([got_s, got_t], 1).tolist()} <= allowed


def test_regions_are_means_of_classes_and_ignored_pixels_take_no_part():
    s, t = maps()
    label = torch.full((3, 5, 6), 255)
    label[0, 0], label[1, :, 0] = 1, 0
    loss = Seen("regions", 1, 2)
    loss(s, t, label)
    torch.testing.assert_close(loss.seen[0], torch.stack([s[0, :, 0].mean(1), s[1, :, :, 0].mean(1)]))
    torch.testing.assert_close(loss.seen[1], torch.stack([t[0, :, 0].mean(1), t[1, :, :, 0].mean(1)]))
    label[0, 0] = 7
    other = Seen("regions", 1, 2, ignore_index=7)
    label[label == 255] = 7
    other(s, t, label)
    torch.testing.assert_close(other.seen[0], loss.seen[0][1:])


@pytest.mark.parametrize("name", ["sp", "cc", "rkd", "pkt"])
def test_pooled_vectors_are_samples(name: str):
    """As the publications have them: (N, C), of any C on either side."""
    s, t = torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 2, dtype=torch.float64)
    loss = losses.create(name, samples="batch")
    draw = loss.sample(tuple(s.shape), seed=0)
    value = loss(s.requires_grad_(), t, draw=draw)
    torch.testing.assert_close(value, loss(s[:, :, None, None], t[:, :, None, None], draw=draw))
    valid = torch.arange(8)[:, None, None].expand(-1, 2, 2) > 2
    torch.testing.assert_close(loss(s, t, draw=draw, valid=valid), loss(s[3:], t[3:], draw=draw))


def test_whole_images_are_zero_where_they_are_not_valid():
    s, t = maps()
    s.requires_grad_()
    valid = torch.ones(3, 5, 6, dtype=torch.bool)
    valid[0, 3:], valid[1] = False, False
    loss = Seen("batch", 1, None)
    loss(s, t, valid=valid).backward()
    got_s, got_t = loss.seen
    torch.testing.assert_close(got_s[0].detach().view(4, 5, 6)[:, :3], s[0, :, :3].detach())
    assert got_s.shape == (2, 120)
    assert got_t.shape == (2, 60)
    assert got_s[0].detach().view(4, 5, 6)[:, 3:].abs().max() == 0
    assert got_t[0].view(2, 5, 6)[:, 3:].abs().max() == 0
    torch.testing.assert_close(s.grad, valid[:, None].expand(SHAPE).double())


@pytest.mark.parametrize("mode", ["pixels", "regions", "batch"])
def test_without_samples_the_value_is_zero(mode):
    s, t = maps()
    s.requires_grad_()
    loss = Seen(mode, 4, 2)
    label, nowhere = torch.zeros(3, 5, 6, dtype=torch.long), torch.zeros(3, 5, 6, dtype=torch.bool)
    value = loss(s, t, label, draw=loss.sample(SHAPE, seed=0), valid=nowhere)
    value.backward()
    assert float(value.detach()) == 0
    assert s.grad.abs().max() == 0
    assert not hasattr(loss, "seen")


def test_mistakes_are_named():
    s, t = maps()
    with pytest.raises(UserError, match="need a draw"):
        Seen("pixels", 4, None)(s, t)
    with pytest.raises(UserError, match="need the labels"):
        Seen("regions", 4, 2)(s, t)
    with pytest.raises(UserError, match="Seen: the valid mask"):
        Seen("batch", 4, None)(s, t, valid=torch.ones(3, 5, 5))
    with pytest.raises(UserError, match="Seen takes one tap"):
        Seen("batch", 4, None)((s, s), (t, t))
    with pytest.raises(UserError, match="one N, H and W"):
        Seen("batch", 4, None)(s, t[..., 1:], valid=torch.ones(3, 5, 6))


def gather_on(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    s, t = (torch.arange(24.0).view(2, 2, 2, 3)[rank : rank + 1] * k for k in (1, -1))
    loss = Seen("batch", 1, None)
    loss(s, t, valid=torch.full((1, 2, 3), rank == 1))
    torch.save(loss.seen, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_every_process_sees_the_samples_of_all(tmp_path: Path):
    two_processes(gather_on, str(tmp_path))
    want = torch.arange(12.0, 24.0)[None]
    for rank in range(2):  # rank 0 has no sample of its own
        got_s, got_t = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(got_s, want)
        torch.testing.assert_close(got_t, -want)
