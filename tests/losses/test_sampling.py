"""Samples for relation losses, and the gather across processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from processes import two_processes
from torch import distributed

from segkd.errors import UserError
from segkd.losses import create
from segkd.losses.sampling import Sampler, gather_rows, generator

LABEL = torch.tensor([[[0, 0, 2], [255, 2, 2]], [[1, 1, 1], [255, 255, 1]]])


def maps():
    return torch.randn(2, 4, 2, 3, dtype=torch.float64), torch.randn(2, 5, 2, 3, dtype=torch.float64)


def test_regions_are_the_mean_of_each_class_in_each_image():
    student, teacher = maps()
    got = Sampler("regions", num_classes=3)(student, teacher, LABEL)
    assert got.image.tolist() == [0, 0, 1]
    assert got.label.tolist() == [0, 2, 1]
    for row, (n, k) in enumerate([(0, 0), (0, 2), (1, 1)]):
        torch.testing.assert_close(got.student[row], student[n][:, LABEL[n] == k].mean(1))
        torch.testing.assert_close(got.teacher[row], teacher[n][:, LABEL[n] == k].mean(1))


@pytest.mark.parametrize("wrong", [3, 7, -1])
def test_a_label_that_is_no_class_is_named(wrong):
    label = LABEL.clone()
    label[1, 0, 0] = wrong
    with pytest.raises(UserError, match=f"a label is {wrong}, but num_classes=3"):
        Sampler("regions", num_classes=3)(*maps(), label)
    names = {"sp", "rkd", "pkt", "cc"}
    for loss in (create(name, samples="regions", num_classes=3) for name in names):
        with pytest.raises(UserError, match=f"a label is {wrong}, but num_classes=3"):
            loss(*maps(), label)


def test_regions_leave_invalid_pixels_out():
    student, teacher = maps()
    valid = torch.ones(2, 2, 3, dtype=torch.bool)
    valid[0, 0] = False  # class 0 is gone, of class 2 the lower row remains
    got = Sampler("regions", num_classes=3)(student, teacher, LABEL, valid=valid)
    assert got.label.tolist() == [2, 1]
    torch.testing.assert_close(got.student[0], student[0, :, 1, 1:].mean(1))


def test_pixels_are_pairs_of_one_position_and_never_twice_the_same():
    student = torch.arange(2 * 6.0).view(2, 1, 2, 3)
    sampler = Sampler("pixels", count=4)
    draw = sampler.draw((2, 1, 2, 3), seed=3, index=[7, 8])
    got = sampler(student, student + 100, LABEL, draw)
    assert got.image.tolist() == [0] * 4 + [1] * 4
    torch.testing.assert_close(got.teacher, got.student + 100)
    assert len(set(got.student[:, 0].tolist())) == 8
    assert got.label.tolist() == [int(LABEL.flatten()[int(v)]) for v in got.student[:, 0]]


def test_pixels_come_from_valid_positions_alone():
    student, teacher = maps()
    sampler = Sampler("pixels", count=4)
    valid = torch.zeros(2, 2, 3, dtype=torch.bool)
    valid[1, 0, :2] = True
    got = sampler(student, teacher, None, sampler.draw(student.shape, seed=0), valid)
    assert got.image.tolist() == [1, 1]
    assert sorted(got.student[:, 0].tolist()) == sorted(student[1, 0, 0, :2].tolist())
    nothing = sampler(student, teacher, None, sampler.draw(student.shape, seed=0), torch.zeros_like(valid))
    assert nothing.student.shape == (0, 4)


def test_a_draw_depends_on_seed_and_sample_alone():
    sampler = Sampler("pixels")
    both = sampler.draw((2, 1, 4, 4), seed=1, index=[5, 9])
    torch.testing.assert_close(sampler.draw((1, 1, 4, 4), seed=1, index=[9])[0], both[1])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(sampler.draw((1, 1, 4, 4), seed=2, index=[5])[0], both[0])


def test_every_position_is_drawn_equally_often():
    sampler = Sampler("pixels", count=4)
    draw = sampler.draw((4000, 1, 4, 4), seed=0)
    counts = torch.bincount(draw.topk(4, dim=1, largest=False).indices.flatten(), minlength=16)
    assert (counts - 1000).abs().max() < 150  # 5 standard deviations


def test_generators_differ():
    first = {float(torch.rand(1, generator=generator(a, b))) for a in range(20) for b in range(20)}
    assert len(first) == 400


def test_batch_takes_whole_images_and_no_gradient_reaches_the_teacher():
    student, teacher = maps()
    teacher.requires_grad_()
    for sampler in [Sampler("batch"), Sampler("pixels"), Sampler("regions", num_classes=3)]:
        got = sampler(student, teacher, LABEL, sampler.draw(student.shape, seed=0))
        assert not got.teacher.requires_grad
    assert Sampler("batch")(student, teacher).student.shape == (2, 24)


def test_mistakes_are_named():
    student, teacher = maps()
    with pytest.raises(UserError, match="'pixels'"):
        Sampler("pixel")
    with pytest.raises(UserError, match="num_classes"):
        Sampler("regions")
    with pytest.raises(UserError, match="labels"):
        Sampler("regions", num_classes=3)(student, teacher)
    with pytest.raises(UserError, match="one N, H and W"):
        Sampler("batch")(student, teacher[:, :, :1])
    vectors = student.mean((2, 3))
    for mode, other in (("pixels", vectors), ("batch", teacher)):
        with pytest.raises(UserError, match=r'\(N, C\) with samples="batch"'):
            Sampler(mode)(vectors, other)


def gather_on(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    rows = torch.arange(3.0 * (rank + 1)).view(rank + 1, 3).add(10 * rank).requires_grad_()
    whole = gather_rows(rows)
    (whole.square().sum() / 2).backward()
    torch.save((whole.detach(), rows.detach(), rows.grad), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_gather_of_uneven_rows_with_gradient(tmp_path: Path):
    two_processes(gather_on, str(tmp_path))
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    want = torch.cat([parts[0][1], parts[1][1]])
    for whole, rows, grad in parts:
        torch.testing.assert_close(whole, want)
        torch.testing.assert_close(grad, 2 * rows)  # times the number of processes, which DDP divides by


def test_gather_in_one_process_is_the_tensor_itself():
    rows = torch.randn(3, 2)
    assert gather_rows(rows) is rows
