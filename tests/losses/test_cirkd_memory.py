"""CIRKD's memory terms against published values and loops; its queues by hand and over processes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from processes import two_processes
from scales import scale_of
from torch import Tensor, distributed
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.losses import similarity
from segkd.losses.cirkd import CrossImageRelational, Draw, memory_contrast, minibatch_pixel


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_cirkd.py"
    spec = importlib.util.spec_from_file_location("textbook_cirkd", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def make(channels: int = 4, width: int = 6, fill: bool = True, **options: Any) -> CrossImageRelational:
    """Small memory terms, with queues full of random unit vectors."""
    sizes = {"pixel_memory_size": 12, "region_memory_size": 7, "pixel_contrast_size": 11, "region_contrast_size": 8}
    loss = CrossImageRelational(num_classes=3, **{**sizes, **options})
    loss.prepare([(2, channels, 3, 5)], [(2, width, 3, 5)], [])
    for queue in loss.queues.values():
        random = torch.randn(queue.entries.shape, generator=torch.Generator().manual_seed(4))
        queue.entries.copy_(F.normalize(random, dim=2))
        queue.filled.fill_(queue.entries.shape[1] if fill else 0)
    return loss.double()


def memory_only(**options: Any) -> CrossImageRelational:
    return make(lambda_minibatch_pixel=0.0, lambda_memory_pixel=1.0, lambda_memory_region=1.0, **options)


def inputs(samples: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    label = torch.randint(0, 3, (samples, 3, 5))
    label[:, 0, :2] = 255
    return double(samples, 4, 3, 5), double(samples, 6, 3, 5), label


def run(loss: CrossImageRelational, s: Tensor, t: Tensor, label: Tensor, seed: int = 1, **options: Any) -> Tensor:
    return loss(s, t, label, draw=loss.sample(tuple(s.shape), seed=seed), **options)


def golden_case(arrays: dict[str, Tensor], term: str) -> tuple[CrossImageRelational, Tensor, Draw]:
    """The loss with one of the published memory terms, the label, and the published draw."""
    loss = CrossImageRelational(
        num_classes=7,
        lambda_minibatch_pixel=0,
        lambda_memory_pixel=float(term == "pixel"),
        lambda_memory_region=float(term == "region"),
        pixel_memory_size=40,
        region_memory_size=12,
        pixel_contrast_size=6 * 7 - 1,
        region_contrast_size=5 * 7 - 1,
        ignored_in_norm=True,
    ).double()
    loss.prepare([tuple(arrays["in/s"].shape)], [tuple(arrays["in/t"].shape)], [])
    assert loss.head is not None
    loss.double().head.load_state_dict(
        {k.split(".", 1)[1]: v for k, v in arrays.items() if k.startswith("param/project_head")}, strict=False
    )
    queue = loss.queues[term]
    queue.entries.copy_(arrays["buf/pixel_queue_after" if term == "pixel" else "buf/segment_queue_after"])
    queue.filled.fill_(queue.entries.shape[1])
    size = F.interpolate(arrays["buf/labels"][:, None].double(), size=arrays["in/s"].shape[2:], mode="nearest")
    label = size[:, 0].long()
    label[label == -1] = 255
    first = arrays[f"buf/{term}_index"]
    rest = [slot for slot in range(queue.entries.shape[1]) if slot not in first.tolist()]
    draw = Draw(torch.rand(3, 60), {term: torch.cat([first, torch.tensor(rest)])})
    return loss, label, draw


def published_head(arrays: dict[str, Tensor]) -> list[Tensor]:
    return [arrays[f"param/project_head.{name}"] for name in ("0.weight", "1.weight", "1.bias", "3.weight")]


@pytest.mark.parametrize("term", ["pixel", "region"])
def test_golden_memory(golden_arrays, book, term):
    arrays = golden_arrays("cirkd_memory")
    loss, label, draw = golden_case(arrays, term)
    s = arrays["in/s"].clone().requires_grad_()
    value = scale_of("cirkd", "cirkd") * loss(s, arrays["in/t"], label, draw=draw)
    value.backward()
    torch.testing.assert_close(value.detach(), arrays[f"out/{term}"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(s.grad, arrays[f"grad_{term}/s"], rtol=1e-7, atol=1e-14)
    for name, parameter in loss.head.named_parameters():
        want = arrays[f"grad_{term}/param_project_head.{name}"]
        torch.testing.assert_close(parameter.grad, want, rtol=1e-7, atol=1e-13)

    memory = loss.queues[term].entries[:, arrays[f"buf/{term}_index"]].flatten(0, 1)
    textbook = book.memory_contrast(
        book.project(arrays["in/s"], *published_head(arrays)), arrays["in/t"], label != 255, memory
    )
    torch.testing.assert_close(textbook, arrays[f"out/{term}"], rtol=1e-9, atol=1e-12)


def test_golden_region_queue(golden_arrays):
    arrays = golden_arrays("cirkd_memory")
    loss, label, draw = golden_case(arrays, "region")
    queue = loss.queues["region"]
    queue.entries.copy_(arrays["buf/segment_queue_before"])
    loss(arrays["in/s"], arrays["in/t"], label, draw=draw)
    torch.testing.assert_close(queue.entries, arrays["buf/segment_queue_before"])  # not before the step
    loss.after_step()
    torch.testing.assert_close(queue.entries, arrays["buf/segment_queue_after"], rtol=1e-9, atol=1e-12)
    assert queue.pointer.tolist() == arrays["buf/segment_queue_ptr_after"].tolist()


@pytest.mark.parametrize("kd", [1.0, 2.0])
@pytest.mark.parametrize("largest", [0.0, 40.0])
def test_textbook_memory(book, monkeypatch, kd, largest):
    monkeypatch.setitem(similarity.BLOCK, "cpu", 50)
    monkeypatch.setattr(similarity, "LARGEST", largest)
    s, t, label = inputs(3)
    rows, kept = s.requires_grad_(), label != 255
    memory = F.normalize(double(19, 4), dim=1)
    teacher = t[:, :4]
    want = book.memory_contrast(rows, teacher, kept, memory, 0.2, kd)
    value = memory_contrast(*(similarity.unit(x.permute(0, 2, 3, 1)[kept]) for x in (rows, teacher)), memory, 0.2, kd)
    torch.testing.assert_close(value, want)
    grads = [torch.autograd.grad(v, s, retain_graph=True)[0] for v in (value, want)]
    torch.testing.assert_close(*grads)


def test_terms_add_up_with_their_weights():
    s, t, label = inputs()
    parts = [run(make(lambda_minibatch_pixel=float(i == 0), lambda_memory_pixel=float(i == 1),
                      lambda_memory_region=float(i == 2)), s, t, label) for i in range(3)]  # fmt: skip
    weights = (2.0, 0.3, 0.5)
    whole = run(make(lambda_minibatch_pixel=2, lambda_memory_pixel=0.3, lambda_memory_region=0.5), s, t, label)
    torch.testing.assert_close(whole, sum(w * p for w, p in zip(weights, parts, strict=True)))
    assert all(float(p.detach()) > 0 for p in parts)


def test_a_term_of_weight_zero_has_no_parts():
    assert not list(make(lambda_memory_pixel=0, lambda_memory_region=0).state_dict())
    assert list(make(lambda_memory_pixel=0).queues) == ["region"]


def test_pixel_queue_holds_pixels_of_its_class():
    loss = memory_only(fill=False, width=3, pixel_memory_size=20)
    label = torch.randint(0, 3, (2, 9, 11))
    label[:, 4] = 255
    teacher = torch.full((2, 3, 9, 11), -5.0, dtype=torch.float64)
    teacher.scatter_(1, label.clamp_max(2)[:, None], 4.0)  # each pixel points along its class, all others along -
    teacher.movedim(1, 3)[label == 255] = -5.0
    for seed in range(3):
        run(loss, double(2, 4, 9, 11), teacher, label, seed=seed)
        loss.after_step()
    for name, count in {"pixel": 20, "region": 6}.items():
        queue = loss.queues[name]
        assert queue.filled.tolist() == [count] * 3
        for number in range(3):
            assert (queue.entries[number, :count].argmax(1) == number).all()
            torch.testing.assert_close(queue.entries[number, :count].norm(dim=1), torch.ones(count).double())
    assert loss.queues["pixel"].pointer.tolist() == [96 % 20] * 3  # 16 of each image and class, three steps


def test_pixels_are_drawn_by_priority_sixteen_a_class_and_image():
    loss = memory_only(fill=False, width=2, pixel_memory_size=40)
    label = torch.zeros(2, 5, 5, dtype=torch.long)
    label[0, 0, :3] = 1  # 3 pixels of class 1, 22 of class 0 in the first image
    numbers = torch.arange(50, dtype=torch.float64).view(2, 25)
    angle = (numbers / 50).view(2, 1, 5, 5)
    draw = loss.sample((2, 4, 5, 5), seed=3)
    loss(double(2, 4, 5, 5), torch.cat([angle.cos(), angle.sin()], 1), label, draw=draw)
    loss.after_step()
    queue = loss.queues["pixel"]
    assert queue.filled.tolist() == [32, 3, 0]
    got = (50 * torch.atan2(queue.entries[..., 1], queue.entries[..., 0])).round()
    first = [int(i) for i in draw.pixels[0].argsort() if label[0].flatten()[i] == 0][:16]
    second = [25 + int(i) for i in draw.pixels[1].argsort()][:16]
    assert got[0, :32].tolist() == [*first, *second]
    assert sorted(got[1, :3].tolist()) == [0, 1, 2]


def test_only_filled_slots_are_compared_with_and_an_empty_queue_gives_zero():
    loss = memory_only(fill=False)
    s, t, label = inputs()
    s.requires_grad_()
    value = run(loss, s, t, label)
    value.backward()
    assert float(value.detach()) == 0
    assert all(not p.grad.any() for p in [s, *loss.parameters()])  # zero, but there: DDP waits for it
    for queue in loss.queues.values():
        queue.entries.fill_(float("nan"))
    loss.after_step()
    later = run(loss, s, t, label)
    assert later.isfinite()
    assert float(later.detach()) > 0


def test_queue_is_updated_once_per_step_and_not_in_evaluation():
    s, t, label = inputs(4)
    whole, parts = memory_only(fill=False), memory_only(fill=False)
    draw = whole.sample(tuple(s.shape), seed=2)
    whole(s, t, label, draw=draw)
    whole.after_step()
    for half in (slice(2), slice(2, 4)):
        parts(s[half], t[half], label[half], draw=draw._replace(pixels=draw.pixels[half]))
        assert not parts.queues["pixel"].filled.any()
    parts.after_step()
    for name, value in parts.state_dict().items():
        if "queues" in name:
            torch.testing.assert_close(value, whole.state_dict()[name])
    before = {k: v.clone() for k, v in whole.state_dict().items() if "queues" in k}
    whole.after_step()  # nothing came since
    run(whole.eval(), s, t, label)
    whole.after_step()
    for name, value in before.items():
        torch.testing.assert_close(whole.state_dict()[name], value)


def test_ring_of_a_class_wraps_around():
    queue = make(fill=False).queues["region"]  # 7 slots
    for start in (0, 5, 10):
        rows = torch.arange(start, start + 5, dtype=torch.float64)[:, None].repeat(1, 6)
        queue.push(rows, torch.ones(5, dtype=torch.long))
    assert queue.entries[1, :, 0].tolist() == [14, 8, 9, 10, 11, 12, 13]
    assert (queue.filled.tolist(), queue.pointer.tolist()) == ([0, 7, 0], [0, 1, 0])
    queue.push(torch.arange(100, 120, dtype=torch.float64)[:, None].repeat(1, 6), torch.ones(20, dtype=torch.long))
    assert sorted(queue.entries[1, :, 0].tolist()) == list(range(113, 120))
    queue.push(torch.empty(0, 6), torch.empty(0, dtype=torch.long))
    assert queue.pointer.tolist() == [0, 0, 0]


def test_region_means(book):
    loss = memory_only(fill=False, region_memory_size=10)
    s, t, label = inputs(3)
    run(loss, s, t, label)
    loss.after_step()
    means, classes = book.region_means(t, label)
    for number in range(3):
        want = [m for m, c in zip(means, classes, strict=True) if c == number]
        torch.testing.assert_close(loss.queues["region"].entries[number, : len(want)], torch.stack(want))


def test_a_draw_depends_on_the_image_not_on_its_place():
    loss = make()
    both = loss.sample((2, 4, 3, 5), seed=9, index=[7, 3])
    alone = loss.sample((1, 4, 3, 5), seed=9, index=[3])
    torch.testing.assert_close(both.pixels[1:], alone.pixels)
    assert all(torch.equal(both.slots[name], alone.slots[name]) for name in ("pixel", "region"))
    other = loss.sample((1, 4, 3, 5), seed=10, index=[3])
    assert not torch.equal(other.slots["pixel"], alone.slots["pixel"])


@pytest.mark.parametrize("training", [True, False])
def test_ignored_pixels_take_no_part_in_the_memory(training):
    s, t, label = inputs()
    loss = memory_only().train(training)
    value = run(loss, s, t, label)
    void = label == 255
    s.movedim(1, 3)[void], t.movedim(1, 3)[void] = float("nan"), float("nan")
    s.requires_grad_()
    again = run(loss, s, t, label)
    again.backward()
    torch.testing.assert_close(again.detach(), value)
    assert s.grad.movedim(1, 3)[void].abs().max() == 0
    masked = run(loss, s, t, label.masked_fill(void, 0), valid=~void)
    torch.testing.assert_close(masked, again)
    loss.after_step()


def test_the_published_norm_differs_where_pixels_are_ignored_alone():
    s, t, label = inputs()
    ours, published = (memory_only(ignored_in_norm=flag) for flag in (False, True))
    published.load_state_dict(ours.state_dict())
    whole = label.masked_fill(label == 255, 1)
    torch.testing.assert_close(run(ours, s, t, whole), run(published, s, t, whole))
    assert abs(float((run(ours, s, t, label) - run(published, s, t, label)).detach())) > 1e-3


@pytest.mark.parametrize("left", [0, 1])
def test_a_batch_of_one_pixel_or_none_is_finite_and_moves_no_running_statistics(left):
    s, t, label = inputs()
    label.flatten()[left:] = 255
    label.flatten()[:left] = 1
    loss = memory_only().train()
    kept = {name: value.clone() for name, value in loss.head.state_dict().items()}
    value = run(loss, s.requires_grad_(), t, label)
    value.backward()
    assert value.isfinite()
    assert s.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in loss.head.parameters())
    assert all(torch.equal(kept[name], value) for name, value in loss.head.state_dict().items())
    if left:
        return
    assert float(value.detach()) == 0
    assert not s.grad.any()
    before = loss.queues["pixel"].pointer.clone()
    loss.after_step()
    assert torch.equal(loss.queues["pixel"].pointer, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("fills", [(0.0, 0.0), (1.0, "noise"), (1e4, -1e4), ("noise", 0.0), ("noise", 1e4)])
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_memory_is_finite(dtype, fills, samples, size):
    s, t = (
        torch.randn(samples, c, *size) if fill == "noise" else torch.full((samples, c, *size), float(fill))
        for c, fill in zip((4, 6), fills, strict=True)
    )
    loss = memory_only().float()
    s = s.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = run(loss, s, t.to(dtype), torch.zeros(samples, *size, dtype=torch.long))
    value.backward()
    assert value.dtype == torch.float32
    assert all(x.isfinite().all() for x in [value, s.grad, *(p.grad for p in loss.parameters())])
    loss.after_step()
    assert all(x.isfinite().all() for x in loss.state_dict().values())


def test_memory_gradient_is_the_numeric_one_and_zero_where_alike():
    s, t, label = inputs(1)
    loss = memory_only().eval()
    draw = loss.sample(tuple(s.shape), seed=0)
    assert torch.autograd.gradcheck(lambda x: loss(x, t, label, draw=draw), s.requires_grad_())
    projected = loss.head(s).detach()
    value = loss(s, projected, label, draw=draw)
    assert float(value.detach()) == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(value, s)[0].abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_memory_in_half_precision_is_raised_even_under_autocast(dtype):
    s, t, label = inputs()
    s, t = s.to(dtype), t.to(dtype)
    loss = memory_only().float()
    want = run(loss, s.float(), t.float(), label)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = run(loss, s, t, label)
    torch.testing.assert_close(value, want)


def test_memory_is_a_mean_over_pixels_in_any_layout():
    s, t, label = inputs()
    loss = memory_only()
    want = run(loss, s, t, label)
    draw = loss.sample(tuple(s.shape), seed=1)
    twice = [x.repeat(2, *([1] * (x.dim() - 1))) for x in (s, t, label)]
    torch.testing.assert_close(loss(*twice, draw=draw._replace(pixels=draw.pixels.repeat(2, 1))), want)
    tiled = [x.repeat(*([1] * (x.dim() - 2)), 2, 2) for x in (s, t, label)]
    torch.testing.assert_close(loss(*tiled, draw=draw._replace(pixels=draw.pixels.repeat(1, 4))), want)
    last = [x.contiguous(memory_format=torch.channels_last) for x in (s, t)]
    torch.testing.assert_close(run(loss, *last, label), want)


def test_no_gradient_to_the_teacher():
    s, t, label = inputs()
    run(make(), s.requires_grad_(), t.requires_grad_(), label).backward()
    assert t.grad is None
    assert s.grad.any()


def test_state_is_saved_and_the_global_generator_stays():
    torch.manual_seed(3)
    want = torch.rand(3)
    torch.manual_seed(3)
    loss = make(fill=False)
    assert torch.equal(torch.rand(3), want)
    s, t, label = inputs()
    run(loss, s, t, label)
    loss.after_step()
    other = make(fill=False)
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(run(other, s, t, label), run(loss, s, t, label))


def halves(rank: int | None) -> list[tuple[Tensor, Tensor, Tensor, list[int]]]:
    """Two steps of three images, one on rank 0 and two on rank 1; at the second step rank 1 has nothing labelled."""
    steps = []
    for seed in (5, 6):
        s, t, label = inputs(3, seed)
        if seed == 6:
            label[1:] = 255
        part = {None: slice(3), 0: slice(1), 1: slice(1, 3)}[rank]
        steps.append((s[part], t[part], label[part], list(range(3))[part]))
    return steps


def train(rank: int | None) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Values and gradients of two steps and what is remembered then; the gradients are summed over the steps."""
    torch.manual_seed(0)  # on every rank
    loss = make(fill=False).eval()
    results: list[Tensor] = []
    for step, (s, t, label, index) in enumerate([*halves(rank), *halves(rank)]):
        s.requires_grad_()
        loss.train()
        loss.head.eval()  # BatchNorm counts each process's own batch
        value = loss(s, t, label, draw=loss.sample(tuple(s.shape), seed=step, index=index))
        value.backward()
        loss.after_step()
        results += [value.detach(), s.grad]
    return results, {
        **{k: v for k, v in loss.state_dict().items() if "queues" in k},
        **{k: p.grad for k, p in loss.named_parameters()},
    }


def on_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(train(rank), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_of_unequal_batches_equal_one(tmp_path):
    two_processes(on_rank, str(tmp_path))
    (first, first_state), (second, second_state) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    whole, state = train(None)
    for step in range(0, len(whole), 2):
        torch.testing.assert_close((first[step] + second[step]) / 2, whole[step])
        torch.testing.assert_close(torch.cat([first[step + 1], second[step + 1]]) / 2, whole[step + 1])
    assert float(whole[-2]) > 0
    for name, value in state.items():
        if "queues" in name:
            torch.testing.assert_close(first_state[name], second_state[name], rtol=0, atol=0)
            torch.testing.assert_close(first_state[name], value)
        else:
            torch.testing.assert_close((first_state[name] + second_state[name]) / 2, value)


def test_mistakes_are_named():
    s, t, label = inputs()
    loss = CrossImageRelational()
    with pytest.raises(UserError, match="prepare"):
        loss(s, t, label, draw=loss.sample(tuple(s.shape), seed=0))
    with pytest.raises(UserError, match="labels and a draw"):
        make()(s, t, label)
    with pytest.raises(UserError, match="labels and a draw"):
        run(make(), s, t, None)
    for wrong in (7, -1):
        with pytest.raises(UserError, match=f"label is {wrong}, but num_classes"):
            run(make(), s, t, label.masked_fill(label == 2, wrong))
    with pytest.raises(UserError, match="one N, H and W"):
        minibatch_pixel(s, t[:, :, 1:])
    with pytest.raises(UserError, match="valid mask is"):
        run(make(), s, t, label[:, 1:])
    with pytest.raises(UserError, match="are all 0"):
        CrossImageRelational(lambda_minibatch_pixel=0, lambda_memory_pixel=0, lambda_memory_region=0)
    with pytest.raises(UserError, match="must be a number from 0"):
        CrossImageRelational(lambda_memory_pixel=-1)
    with pytest.raises(UserError, match="from 1"):
        CrossImageRelational(pixel_memory_size=0)
    with pytest.raises(UserError, match="contrast_temperature"):
        CrossImageRelational(contrast_temperature=0)
