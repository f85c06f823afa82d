"""One contract over every registered loss: precision, finiteness, teacher, reduction, masks, ranks."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import two_processes
from scales import scale_of
from torch import Tensor, distributed, nn
from torch.overrides import TorchFunctionMode
from traits import trait

from segkd import losses
from segkd.errors import UserError
from segkd.losses import DistillationLoss
from segkd.losses.base import COMPARED, SOFTMAX, WithFirstStage, mean_over

NAMES = losses.names()
#: losses without a network that a first stage fits to the teacher's features, whatever their scale
UNFITTED = [name for name in NAMES if not issubclass(losses.LOSSES.get(name), WithFirstStage)]
Maps = tuple[Tensor, ...]


class Case(NamedTuple):
    """One input of a loss: a map per tap on both sides, labels (N, H, W), numbers of the samples, a mask."""

    student: Maps
    teacher: Maps
    label: Tensor | None
    index: Tensor
    valid: Tensor | None = None

    def changed(self, change: Callable[[Tensor], Tensor]) -> Case:
        """The same with every map changed."""
        return self._replace(student=tuple(map(change, self.student)), teacher=tuple(map(change, self.teacher)))


def case(name: str, samples: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0) -> Case:
    """Random maps of the shapes that the loss's trait gives."""
    t = trait(name)
    generator = torch.Generator().manual_seed(seed)

    def noise(channels: int, height: int, width: int) -> Tensor:
        size = (samples, channels, height, width)
        return (3 * torch.randn(size, generator=generator, dtype=torch.float64)).to(dtype)

    student = tuple(noise(*shape) for shape in t.shapes)
    teacher = tuple(noise(t.channels or shape[0], *shape[1:]) for shape in t.shapes)
    label = torch.randint(0, max(t.classes, 1), (samples, *t.shapes[0][1:]), generator=generator)
    return Case(student, teacher, label if t.classes else None, torch.arange(samples) + 10 * seed)


def mask(samples: int, height: int, width: int, share: float = 0.7, seed: int = 1) -> Tensor:
    return torch.rand(samples, height, width, generator=torch.Generator().manual_seed(seed)) < share


def make(name: str, given: Case, **arguments: Any) -> DistillationLoss:
    """The loss, prepared for these shapes; its parameters do not depend on what was made before."""
    torch.manual_seed(0)
    loss = losses.create(name, **(trait(name).kwargs | arguments))
    modules = [nn.Identity() for _ in given.teacher]
    loss.prepare([tuple(x.shape) for x in given.student], [tuple(x.shape) for x in given.teacher], modules)
    return loss.to(given.student[0].dtype) if given.student[0].dtype == torch.float64 else loss


@pytest.mark.parametrize("name", NAMES)
def test_an_integer_may_be_written_as_a_float(name: str) -> None:
    """As configs do (2e4)."""
    given, own = case(name), trait(name).kwargs
    expected = evaluate(make(name, given), given)
    arguments = inspect.signature(losses.LOSSES.get(name)).parameters.items()
    kwargs = {key: p.default for key, p in arguments if str(p.annotation) == "int"} | own
    floats = {key: float(value) if type(value) is int else value for key, value in kwargs.items()}
    assert torch.equal(evaluate(make(name, given, **floats), given), expected)


def test_parts_are_drawn_from_torchs_state_which_stays_as_it_was() -> None:
    """Two binds, or two seeds, start differently; the same seed starts alike; what is made later does not change."""
    drawn = 0
    for name in NAMES:
        given, states = case(name), []
        for seed in (0, 0, 1):
            loss = losses.create(
                name, **(trait(name).kwargs | ({"lambda_memory_pixel": 0.1} if name == "cirkd" else {}))
            )
            torch.manual_seed(seed)
            before = torch.random.get_rng_state()
            modules = [nn.Identity() for _ in given.teacher]
            loss.prepare([tuple(x.shape) for x in given.student], [tuple(x.shape) for x in given.teacher], modules)
            assert torch.equal(torch.random.get_rng_state(), before), name
            states.append([p.detach().clone() for p in loss.parameters() if p.dim() > 1])
        assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True)), name
        assert not any(torch.equal(a, b) for a, b in zip(states[0], states[2], strict=True)), name
        drawn += bool(states[0])
    assert drawn >= 8


def evaluate(loss: DistillationLoss, given: Case) -> Tensor:
    draw = loss.sample(*(tuple(x.shape) for x in given.student), seed=5, index=given.index.tolist())
    options: dict[str, Any] = {} if given.valid is None else {"valid": given.valid}
    if loss.uses_index:
        options["index"] = given.index
    single = len(given.student) == 1
    student, teacher = (given.student[0], given.teacher[0]) if single else (given.student, given.teacher)
    value: Tensor = loss(student, teacher, given.label, image=None, draw=draw, **options)
    return value


def value_and_gradient(name: str, given: Case, loss: DistillationLoss | None = None) -> tuple[Tensor, Maps]:
    student = tuple(x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in given.student)
    value = evaluate(loss or make(name, given), given._replace(student=student))
    assert value.dim() == 0
    return value.detach(), torch.autograd.grad(value, student)


def largest(maps: Maps) -> float:
    return max(float(x.abs().max()) for x in maps)


def test_names_and_nearest_neighbour():
    assert {"at", "cwd", "kd"} <= set(NAMES)
    with pytest.raises(UserError, match="'cwd'"):
        losses.create("cdw")
    with pytest.raises(UserError, match="'temperature'"):
        losses.create("kd", temprature=2.0)


@pytest.mark.parametrize("name", NAMES)
def test_published_scales_are_formulas_of_sizes(name):
    for publication, formula in losses.LOSSES.get(name).published_scale.items():
        sizes = {node.id: 2.0 for node in ast.walk(ast.parse(formula)) if isinstance(node, ast.Name)}
        assert 0 < scale_of(name, publication, **sizes) < math.inf


@pytest.mark.parametrize("name", [name for name in NAMES if trait(name).smooth])
def test_gradcheck(name):
    given = case(name)
    loss = make(name, given)
    for valid in [None, mask(2, *given.student[0].shape[2:])] if trait(name).valid else [None]:
        inputs = tuple(x.clone().requires_grad_() for x in given.student)

        def value(*student: Tensor, valid: Tensor | None = valid) -> Tensor:
            return evaluate(copy.deepcopy(loss), given._replace(student=student, valid=valid))

        assert torch.autograd.gradcheck(value, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_teacher_gets_no_gradient(name):
    given = case(name)
    teacher = tuple(x.clone().requires_grad_() for x in given.teacher)
    student = tuple(x.clone().requires_grad_() for x in given.student)
    evaluate(make(name, given), given._replace(student=student, teacher=teacher)).backward()
    assert all(x.grad is None or not x.grad.any() for x in teacher)
    assert any(x.grad.any() for x in student if x.grad is not None)


@pytest.mark.parametrize("name", [name for name in NAMES if trait(name).zero])
def test_equal_inputs_give_zero(name):
    given = case(name)
    value, _ = value_and_gradient(name, given)
    assert value > 0
    value, grad = value_and_gradient(name, given._replace(teacher=given.student))
    assert abs(float(value)) < 1e-12
    assert largest(grad) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_step_against_the_gradient_lowers_it(name):
    given = case(name)
    before, grad = value_and_gradient(name, given)
    length = sum(float(g.square().sum()) for g in grad) ** 0.5
    step = tuple(x - 1e-3 * g / length for x, g in zip(given.student, grad, strict=True))
    after, _ = value_and_gradient(name, given._replace(student=step))
    assert after < before


def masks_of(name: str, given: Case) -> list[Tensor | None]:
    return [None, mask(2, *given.student[0].shape[2:])] if trait(name).valid else [None]


@pytest.mark.parametrize("name", UNFITTED)
def test_it_says_whether_the_teachers_scale_matters(name):
    """By how much a teacher that says something else changes the gradient, of fainter and louder features."""

    def says(scale: float) -> float:
        """The distance between the gradients by two teachers of this scale."""
        teachers = [tuple(scale * t for t in case(name, seed=s).teacher) for s in (0, 1)]
        pulls = [value_and_gradient(name, case(name)._replace(teacher=teacher))[1] for teacher in teachers]
        return sum(float((a - b).square().sum()) for a, b in zip(*pulls, strict=True)) ** 0.5

    fades, grows = says(0.01) < 0.5 * says(1), says(100) > 10 * says(1)
    expected = {(False, False): "None", (True, False): "SOFTMAX", (True, True): "COMPARED"}[fades, grows]
    values = {"None": None, "SOFTMAX": SOFTMAX, "COMPARED": COMPARED}
    cure = f"its class needs usual_rms = {expected}, of segkd.losses.base"
    assert losses.LOSSES.get(name).usual_rms == values[expected], cure


@pytest.mark.parametrize("name", [name for name in NAMES if trait(name).repeated])
def test_batch_repeated_gives_the_same_value(name):
    given = case(name)
    loss = make(name, given)
    for valid in masks_of(name, given):
        want, _ = value_and_gradient(name, given._replace(valid=valid), copy.deepcopy(loss))
        more = given.changed(lambda x: x.repeat(2, 1, 1, 1))._replace(
            label=None if given.label is None else given.label.repeat(2, 1, 1),
            valid=None if valid is None else valid.repeat(2, 1, 1),
            index=given.index.repeat(2),
        )
        torch.testing.assert_close(value_and_gradient(name, more, copy.deepcopy(loss))[0], want)


@pytest.mark.parametrize("name", [name for name in NAMES if trait(name).tiled])
def test_map_tiled_gives_the_same_value(name):
    given = case(name)
    loss = make(name, given)
    for valid in masks_of(name, given):
        want, _ = value_and_gradient(name, given._replace(valid=valid), copy.deepcopy(loss))
        more = given.changed(lambda x: x.repeat(1, 1, 2, 2))._replace(
            label=None if given.label is None else given.label.repeat(1, 2, 2),
            valid=None if valid is None else valid.repeat(1, 2, 2),
        )
        torch.testing.assert_close(value_and_gradient(name, more, copy.deepcopy(loss))[0], want)


@pytest.mark.parametrize("name", NAMES)
def test_memory_layout_does_not_matter(name):
    given = case(name)
    loss = make(name, given)
    want = value_and_gradient(name, given, copy.deepcopy(loss))
    last = given.changed(lambda x: x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(value_and_gradient(name, last, copy.deepcopy(loss)), want)
    mixed = given._replace(teacher=last.teacher)
    torch.testing.assert_close(value_and_gradient(name, mixed, copy.deepcopy(loss)), want)
    turned = given.changed(lambda x: x.transpose(2, 3).contiguous().transpose(2, 3))
    torch.testing.assert_close(value_and_gradient(name, turned, copy.deepcopy(loss)), want)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_even_under_autocast(name, dtype):
    given = case(name, dtype=dtype)
    single = given.changed(lambda x: x.float())
    loss = make(name, single)
    want, want_grad = value_and_gradient(name, single, copy.deepcopy(loss))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, grad = value_and_gradient(name, given, copy.deepcopy(loss))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, want)
    for got, wanted in zip(grad, want_grad, strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), wanted, rtol=1e-2, atol=1e-4)
    double = given.changed(lambda x: x.double())
    assert value_and_gradient(name, double)[0].dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("student", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("teacher", [torch.float64, torch.float32])
def test_the_two_sides_may_have_two_precisions(name, student, teacher):
    rounded = case(name, dtype=torch.bfloat16)  # exact in all of them
    alike = rounded.changed(lambda x: x.float())
    loss = make(name, alike)
    want, want_grad = value_and_gradient(name, alike, copy.deepcopy(loss))
    mixed = rounded._replace(
        student=tuple(x.to(student) for x in rounded.student), teacher=tuple(x.to(teacher) for x in rounded.teacher)
    )
    value, grad = value_and_gradient(name, mixed, copy.deepcopy(loss))
    torch.testing.assert_close(value.float(), want, rtol=1e-4, atol=1e-5)
    for got, wanted in zip(grad, want_grad, strict=True):
        torch.testing.assert_close(got.float(), wanted, rtol=1e-2, atol=1e-4)


class Witness(TorchFunctionMode):
    """Notes the arithmetic that ran while autocast was on."""

    ARITHMETIC = {
        "kl_div", "square", "pow", "log_softmax", "softmax", "exp", "log", "matmul", "bmm", "mm", "einsum", "conv2d",
        "linear", "linalg_vector_norm", "norm", "normalize", "logsumexp", "mse_loss", "smooth_l1_loss", "cdist",
        "cosine_similarity", "sum", "abs", "sqrt", "rsqrt", "softplus", "mul", "div", "add", "sub", "relu",
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.under_autocast: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        if name in self.ARITHMETIC:
            self.seen.add(name)
            if torch.is_autocast_enabled("cpu"):
                self.under_autocast.add(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_computed_under_autocast(name):
    given = case(name, dtype=torch.bfloat16)
    loss = make(name, given)
    with torch.autocast("cpu", dtype=torch.bfloat16), Witness() as witness:
        evaluate(loss, given)
    assert witness.seen
    assert not witness.under_autocast


@pytest.mark.parametrize("name", [name for name in NAMES if trait(name).valid])
def test_no_valid_position_gives_zero_with_zero_gradient(name):
    given = case(name)
    loss = make(name, given)
    size = (2, *given.student[0].shape[2:])
    nowhere = given._replace(valid=torch.zeros(size, dtype=torch.bool))
    value, grad = value_and_gradient(name, nowhere, copy.deepcopy(loss))
    assert float(value) == 0
    assert largest(grad) == 0
    everywhere = given._replace(valid=torch.ones(size, dtype=torch.bool))
    want = value_and_gradient(name, given, copy.deepcopy(loss))
    torch.testing.assert_close(value_and_gradient(name, everywhere, copy.deepcopy(loss)), want)


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_is_taken_or_refused_as_the_loss_says(name):
    given = case(name)
    loss = make(name, given)
    masked = given._replace(valid=torch.ones(2, *given.student[0].shape[2:], dtype=torch.bool))
    assert loss.takes_mask == trait(name).valid
    if loss.takes_mask:
        evaluate(loss, masked)
    else:
        with pytest.raises(UserError, match="takes no mask"):
            evaluate(loss, masked)


@pytest.mark.parametrize("name", [name for name in NAMES if trait(name).classes])
def test_ignored_labels_give_zero_with_zero_gradient(name):
    given = case(name)
    assert given.label is not None
    value, grad = value_and_gradient(name, given._replace(label=torch.full_like(given.label, 255)))
    assert float(value) == 0
    assert largest(grad) == 0


def test_golden_values_are_the_collections_own():
    tests = Path(__file__).resolve().parents[1]
    collection = tests.parents[1] / "shared" / "reference" / "golden" / "losses.npz"
    if not collection.is_file():
        pytest.skip("the whole golden collection is not beside the checkout (../shared/reference/golden)")
    ours, whole = np.load(tests / "golden" / "losses.npz"), np.load(collection)
    assert all(np.array_equal(ours[key], whole[key]) for key in ours.files)
    described = json.loads((tests / "golden" / "losses.json").read_text())["cases"]
    assert {key.split("/")[0] for key in ours.files} == set(described)


FILLS = st.sampled_from([0.0, 1.0, -1e4, 1e4, 1e-8, "noise", "faint", "spikes", "one hot"])


def fill(kind: float | str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A map of the named kind, magnitude at most 1e4."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    if kind in ("noise", "faint"):
        return noise if kind == "noise" else 1e-6 * noise
    if kind == "spikes":
        return 1e4 * noise.sign()
    if kind == "one hot":
        return 1e4 * torch.nn.functional.one_hot(noise.argmax(1), shape[1]).movedim(-1, 1).float()
    return torch.full(shape, float(kind))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(
    kinds=st.tuples(FILLS, FILLS),
    shape=st.tuples(*(st.integers(0, 5) for _ in range(4))),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    share=st.sampled_from([None, 0.0, 0.5, 1.0]),
    channels_last=st.booleans(),
    labels=st.sampled_from(["drawn", "one class", "ignored", "half"]),
)
def test_finite_for_any_shape_and_input(name, kinds, shape, dtype, share, channels_last, labels):
    t = trait(name)
    n = t.smallest[0] + shape[0]
    c, h, w = ((low + more) * by for low, more, by in zip(t.smallest[1:], shape[1:], t.divisible, strict=True))
    teacher_channels = t.channels or c
    student = tuple(fill(kinds[0], (n, c, h, w), 2 * k).to(dtype) for k in range(len(t.shapes)))
    teacher = tuple(fill(kinds[1], (n, teacher_channels, h, w), 2 * k + 1).to(dtype) for k in range(len(t.shapes)))
    label = torch.randint(0, max(t.classes, 1), (n, h, w), generator=torch.Generator().manual_seed(2))
    label = {"drawn": label, "one class": label * 0, "ignored": label * 0 + 255, "half": label.clone()}[labels]
    if labels == "half":
        label[..., : w // 2] = 255
    valid = None if share is None or not t.valid else mask(n, h, w, share, seed=3)
    given = Case(student, teacher, label if t.classes else None, torch.arange(n), valid)
    if channels_last:
        given = given.changed(lambda x: x.contiguous(memory_format=torch.channels_last))
    value, grad = value_and_gradient(name, given)
    assert value.isfinite()
    assert value >= t.lowest - 1e-3
    assert all(g.isfinite().all() for g in grad)


@pytest.mark.parametrize("name", NAMES)
def test_half_gradients_of_faint_features_are_finite(name):
    t = trait(name)
    for magnitude in (1e-3, 1e-4, 1e-5, 1e-6, 3e-7):
        for shape in ((1, 4, 2, 3), (2, 8, 4, 4)):
            size = tuple(
                -(-max(x, low) // by) * by for x, low, by in zip(shape, t.smallest, (1, *t.divisible), strict=True)
            )
            given = case(name, size[0], seed=1)
            student = tuple((magnitude * fill("noise", size, k)).half() for k in range(len(t.shapes)))
            teacher = tuple(fill("noise", (size[0], t.channels or size[1], *size[2:]), 9).half() for _ in t.shapes)
            label = None if given.label is None else torch.arange(size[2] * size[3]).reshape(1, *size[2:]) % t.classes
            label = None if label is None else label.expand(size[0], -1, -1)
            value, grad = value_and_gradient(name, given._replace(student=student, teacher=teacher, label=label))
            assert value.isfinite()
            assert all(g.isfinite().all() for g in grad), (magnitude, size)


def test_mean_over_nothing_is_zero():
    total = torch.zeros((), requires_grad=True)
    value = mean_over(total, torch.tensor(0))
    value.backward()
    assert float(value.detach()) == 0
    assert total.grad.isfinite()


def uneven(name: str, rank: int) -> Case:
    """Two samples a rank; with a mask or labels, few valid positions on rank 1 and a whole sample left out."""
    given = case(name, seed=rank)
    valid = torch.ones(2, *given.student[0].shape[2:], dtype=torch.bool)
    if rank == 1:
        valid[0, 1:], valid[1] = False, False
    label = None if given.label is None else given.label.masked_fill(~valid, 255)
    return given._replace(label=label, valid=valid if trait(name).valid else None)


def parameters_of(loss: DistillationLoss) -> list[Tensor]:
    return [p for p in loss.parameters() if p.requires_grad]


def all_gradients(name: str, given: Case) -> tuple[Tensor, Maps, Maps]:
    """Value, gradients to the student's maps, and to the loss's own parameters."""
    loss = make(name, given).eval()
    student = tuple(x.detach().clone().requires_grad_() for x in given.student)
    value = evaluate(loss, given._replace(student=student))
    own = parameters_of(loss)
    grads = torch.autograd.grad(value, [*student, *own], allow_unused=True, materialize_grads=True)
    return value.detach(), grads[: len(student)], grads[len(student) :]


def on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    results = [all_gradients(name, uneven(name, rank)) for name in NAMES]
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def joined(first: Case, second: Case) -> Case:
    def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else torch.cat([a, b])

    student = tuple(map(torch.cat, zip(first.student, second.student, strict=True)))
    teacher = tuple(map(torch.cat, zip(first.teacher, second.teacher, strict=True)))
    index = torch.cat([first.index, second.index])
    return Case(student, teacher, both(first.label, second.label), index, both(first.valid, second.valid))


def test_two_processes_equal_one(tmp_path: Path):
    two_processes(on_rank, str(tmp_path))
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for (value_0, maps_0, own_0), (value_1, maps_1, own_1), name in zip(*ranks, NAMES, strict=True):
        value, maps, own = all_gradients(name, joined(uneven(name, 0), uneven(name, 1)))
        torch.testing.assert_close((value_0 + value_1) / 2, value, msg=lambda m, name=name: f"{name}: {m}")
        for a, b, whole in zip(maps_0, maps_1, maps, strict=True):
            torch.testing.assert_close(torch.cat([a, b]) / 2, whole, msg=lambda m, name=name: f"{name}: {m}")
        for a, b, whole in zip(own_0, own_1, own, strict=True):
            torch.testing.assert_close((a + b) / 2, whole, msg=lambda m, name=name: f"{name}: {m}")
