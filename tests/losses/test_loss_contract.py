"""One contract over every registered loss: precision, finiteness, teacher, reduction, masks, ranks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed, multiprocessing, nn
from torch.overrides import TorchFunctionMode

from segkd import losses
from segkd.errors import UserError
from segkd.losses import DistillationLoss
from segkd.losses.base import mean_over

NAMES = losses.names()


def make(name: str, student: Tensor, teacher: Tensor) -> DistillationLoss:
    loss = losses.create(name)
    loss.prepare([tuple(student.shape)], [tuple(teacher.shape)], [nn.Identity()])
    return loss


def pair(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    s, t = (3 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)).to(dtype)
    return s, t


def value_and_gradient(
    name: str, student: Tensor, teacher: Tensor, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    student = student.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = make(name, student, teacher)(student, teacher, valid=valid)
    assert value.dim() == 0
    (grad,) = torch.autograd.grad(value, student)
    return value.detach(), grad


def test_names_and_nearest_neighbour():
    assert {"at", "cwd", "kd"} <= set(NAMES)
    with pytest.raises(UserError, match="'cwd'"):
        losses.create("cdw")
    with pytest.raises(UserError, match="'temperature'"):
        losses.create("kd", temprature=2.0)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    s, t = pair(2, 3, 3, 4)
    valid = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)) < 0.7
    loss = make(name, s, t)
    assert torch.autograd.gradcheck(lambda x: loss(x, t), s.requires_grad_())
    assert torch.autograd.gradcheck(lambda x: loss(x, t, valid=valid), s)


@pytest.mark.parametrize("name", NAMES)
def test_teacher_gets_no_gradient_and_equal_inputs_give_zero(name):
    s, t = pair(2, 3, 5, 4)
    teacher = t.clone().requires_grad_()
    value = make(name, s, t)(s.requires_grad_(), teacher)
    value.backward()
    assert value > 0
    assert teacher.grad is None
    value, grad = value_and_gradient(name, t, t)
    assert float(value) == 0
    assert float(grad.abs().max()) < 1e-15


@pytest.mark.parametrize("name", NAMES)
def test_a_step_against_the_gradient_lowers_it(name):
    s, t = pair(2, 3, 5, 4)
    before, grad = value_and_gradient(name, s, t)
    after, _ = value_and_gradient(name, s - 1e-2 * grad / grad.norm(), t)
    assert after < before


@pytest.mark.parametrize("name", NAMES)
def test_batch_repeated_and_map_tiled_give_the_same_value(name):
    s, t = pair(2, 3, 5, 4)
    valid = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(1)) < 0.7
    want, masked = value_and_gradient(name, s, t)[0], value_and_gradient(name, s, t, valid)[0]
    for reps in [(2, 1, 1, 1), (1, 1, 2, 2)]:
        more = s.repeat(reps), t.repeat(reps)
        torch.testing.assert_close(value_and_gradient(name, *more)[0], want)
        mask = valid.repeat(reps[0], reps[2], reps[3])
        torch.testing.assert_close(value_and_gradient(name, *more, mask)[0], masked)


@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_does_not_matter(name):
    s, t = pair(2, 3, 5, 4)
    want = value_and_gradient(name, s, t)
    last = [x.contiguous(memory_format=torch.channels_last) for x in (s, t)]
    torch.testing.assert_close(value_and_gradient(name, *last), want)
    torch.testing.assert_close(value_and_gradient(name, s, last[1]), want)
    turned = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in (s, t)]
    torch.testing.assert_close(value_and_gradient(name, *turned), want)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_even_under_autocast(name, dtype):
    s, t = pair(2, 3, 5, 4, dtype=dtype)
    want, want_grad = value_and_gradient(name, s.float(), t.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, grad = value_and_gradient(name, s, t)
    assert value.dtype == torch.float32
    assert grad.dtype == dtype
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(grad.float(), want_grad, rtol=1e-2, atol=1e-4)
    assert value_and_gradient(name, s.double(), t.double())[0].dtype == torch.float64


class Witness(TorchFunctionMode):
    """Notes the arithmetic that ran while autocast was on."""

    QUIET = {"dim", "detach", "contiguous", "flatten", "any", "bool", "stack", "mean"}

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.under_autocast: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        self.seen.add(name)
        if torch.is_autocast_enabled("cpu") and not name.startswith("__") and name not in self.QUIET:
            self.under_autocast.add(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_computed_under_autocast(name):
    s, t = pair(2, 3, 5, 4, dtype=torch.bfloat16)
    loss = make(name, s, t)
    with torch.autocast("cpu", dtype=torch.bfloat16), Witness() as witness:
        loss(s, t)
    assert witness.seen & {"kl_div", "square", "pow"}
    assert not witness.under_autocast


@pytest.mark.parametrize("name", NAMES)
def test_no_valid_position_gives_zero_with_zero_gradient(name):
    s, t = pair(2, 3, 5, 4)
    value, grad = value_and_gradient(name, s, t, torch.zeros(2, 5, 4, dtype=torch.bool))
    assert float(value) == 0
    assert float(grad.abs().max()) == 0
    everywhere = torch.ones(2, 5, 4, dtype=torch.bool)
    torch.testing.assert_close(value_and_gradient(name, s, t, everywhere), value_and_gradient(name, s, t))


def test_golden_values_are_the_collections_own():
    tests = Path(__file__).resolve().parents[1]
    collection = tests.parents[1] / "shared" / "reference" / "golden" / "losses.npz"
    if not collection.is_file():
        pytest.skip("the whole golden collection is not beside the checkout (../shared/reference/golden)")
    ours, whole = np.load(tests / "golden" / "losses.npz"), np.load(collection)
    assert all(np.array_equal(ours[key], whole[key]) for key in ours.files)
    described = json.loads((tests / "golden" / "losses.json").read_text())["cases"]
    assert {key.split("/")[0] for key in ours.files} == set(described)


FILLS = st.sampled_from([0.0, 1.0, -1e4, 1e4, 1e-8, "noise", "spikes", "one hot"])


def fill(kind: float | str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A map of the named kind, magnitude at most 1e4."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    if kind == "noise":
        return noise
    if kind == "spikes":
        return 1e4 * noise.sign()
    if kind == "one hot":
        return 1e4 * torch.nn.functional.one_hot(noise.argmax(1), shape[1]).movedim(-1, 1).float()
    return torch.full(shape, float(kind))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(
    kinds=st.tuples(FILLS, FILLS),
    shape=st.tuples(*(st.integers(1, 6) for _ in range(4))),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    share=st.sampled_from([None, 0.0, 0.5, 1.0]),
    channels_last=st.booleans(),
)
def test_finite_for_any_shape_and_input(name, kinds, shape, dtype, share, channels_last):
    s, t = (fill(kind, shape, seed).to(dtype) for seed, kind in enumerate(kinds))
    if channels_last:
        s, t = (x.contiguous(memory_format=torch.channels_last) for x in (s, t))
    n, _, h, w = shape
    valid = None if share is None else torch.rand(n, h, w, generator=torch.Generator().manual_seed(3)) < share
    value, grad = value_and_gradient(name, s, t, valid)
    assert value.isfinite()
    assert value > -1e-3
    assert grad.isfinite().all()


def test_mean_over_nothing_is_zero():
    total = torch.zeros((), requires_grad=True)
    value = mean_over(total, torch.tensor(0))
    value.backward()
    assert float(value.detach()) == 0
    assert total.grad.isfinite()


def uneven(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two samples a rank, with few valid positions on rank 1 and a whole sample left out."""
    s, t = pair(2, 3, 4, 5, seed=rank)
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    if rank == 1:
        valid[0, 1:], valid[1] = False, False
    return s, t, valid


def on_rank(rank: int, folder: str) -> None:
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    results = [value_and_gradient(name, *uneven(rank)) for name in NAMES]
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path):
    multiprocessing.spawn(on_rank, args=(str(tmp_path),), nprocs=2)
    by_rank = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole = [torch.cat(parts) for parts in zip(uneven(0), uneven(1), strict=True)]
    for i, name in enumerate(NAMES):
        value, grad = value_and_gradient(name, *whole)
        torch.testing.assert_close((by_rank[0][i][0] + by_rank[1][i][0]) / 2, value)
        torch.testing.assert_close(torch.cat([by_rank[0][i][1], by_rank[1][i][1]]) / 2, grad)
