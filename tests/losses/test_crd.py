"""CRD against published values, the textbook form and closed forms; its banks by hand and over processes."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from processes import two_processes
from scales import scale_of
from torch import Tensor, distributed
from torch.nn import functional as F
from traits import Trait

from segkd.errors import UserError
from segkd.losses import crd
from segkd.losses.crd import ContrastiveRepresentation, contrast

# smooth: Z is a constant that the first batch sets, a numeric difference would move it (it is fixed below);
# zero: the estimate is no distance, equal inputs are not its minimum
TRAIT = Trait(
    kwargs={"n_data": 16, "num_classes": 3, "feat_dim": 4, "nce_k": 20},
    channels=2,
    classes=3,
    smooth=False,
    zero=False,
)


@pytest.fixture(scope="module")
def book() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "textbook" / "forms_crd.py"
    spec = importlib.util.spec_from_file_location("textbook_crd", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def make(samples: str = "regions", **options: Any) -> ContrastiveRepresentation:
    sizes: dict[str, Any] = {"n_data": 20, "num_classes": 3, "feat_dim": 6, "nce_k": 25}
    loss = ContrastiveRepresentation(**{**sizes, "samples": samples, **options})
    loss.prepare([(2, 4, 3, 5)], [(2, 7, 3, 5)], [])
    return loss.double()


def inputs(samples: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features of both sides, label, numbers of the images."""
    torch.manual_seed(seed)
    label = torch.randint(0, 3, (samples, 3, 5))
    label[:, 0, :2], label[0][label[0] == 1] = 255, 0  # no class 1 in the first image
    return double(samples, 4, 3, 5), double(samples, 7, 3, 5), label, torch.tensor([4, 19, 0, 7, 11])[:samples]


def run(
    loss: ContrastiveRepresentation,
    s: Tensor,
    t: Tensor,
    label: Tensor | None,
    index: Tensor,
    seed: int = 1,
    **more: Any,
) -> Tensor:
    draw = loss.sample(tuple(s.shape), seed=seed, index=index.tolist())
    return loss(s, t, label, draw=draw, index=index, **more)


def golden_loss(arrays: dict[str, Tensor]) -> ContrastiveRepresentation:
    loss = ContrastiveRepresentation(n_data=20, samples="batch", feat_dim=6, nce_k=7)
    loss.prepare([tuple(arrays["in/s"].shape)], [tuple(arrays["in/t"].shape)], [])
    names = {"student_embedding": "embed_s.linear", "teacher_embedding": "embed_t.linear"}
    state = {f"{ours}.{x}": arrays[f"param/{theirs}.{x}"] for ours, theirs in names.items() for x in ("weight", "bias")}
    state |= {"student_bank": arrays["buf/memory_v1_before"], "teacher_bank": arrays["buf/memory_v2_before"]}
    loss.double().load_state_dict(state, strict=False)
    return loss


def test_golden(golden_arrays):
    arrays = golden_arrays("crd_full")
    loss, s = golden_loss(arrays), arrays["in/s"].clone().requires_grad_()
    value = loss(s, arrays["in/t"], draw=arrays["buf/contrast_idx"][:, 1:], index=arrays["buf/idx"])
    value = scale_of("crd", "repdistiller") * value
    value.backward()
    torch.testing.assert_close(value.detach(), arrays["out/loss"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(s.grad, arrays["grad_loss/s"], rtol=1e-7, atol=1e-14)
    for ours, theirs in {"student_embedding": "embed_s.linear", "teacher_embedding": "embed_t.linear"}.items():
        for name, parameter in getattr(loss, ours).named_parameters():
            torch.testing.assert_close(
                parameter.grad, arrays[f"grad_loss/param_{theirs}.{name}"], rtol=1e-7, atol=1e-14
            )
    for log_z, name in zip(loss.log_z, ("Z_v1", "Z_v2"), strict=True):
        torch.testing.assert_close(log_z.exp(), arrays[f"buf/{name}"], rtol=1e-9, atol=0)
    torch.testing.assert_close(loss.teacher_bank, arrays["buf/memory_v2_before"])  # not before the step
    loss.after_step()
    torch.testing.assert_close(loss.student_bank, arrays["buf/memory_v1_after"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(loss.teacher_bank, arrays["buf/memory_v2_after"], rtol=1e-9, atol=1e-12)


def test_textbook_is_the_published_one(golden_arrays, book):
    arrays = golden_arrays("crd_full")
    s = arrays["in/s"].clone().requires_grad_()
    embedded = [
        book.embed(x, arrays[f"param/embed_{side}.linear.weight"], arrays[f"param/embed_{side}.linear.bias"])
        for side, x in (("s", s), ("t", arrays["in/t"]))
    ]
    banks = [arrays[f"buf/memory_v{i}_before"] for i in (1, 2)]
    value = book.crd(*embedded, *banks, arrays["buf/contrast_idx"])
    torch.testing.assert_close(value.detach(), arrays["out/loss"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(value, s)[0], arrays["grad_loss/s"], rtol=1e-7, atol=1e-14)
    torch.testing.assert_close(
        book.updated(banks[0], embedded[0].detach(), arrays["buf/idx"]), arrays["buf/memory_v1_after"]
    )


def textbook_inputs(
    book: ModuleType, loss: ContrastiveRepresentation, s: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    embedded = [book.embed(x, e.weight, e.bias) for x, e in ((s, loss.student_embedding), (t, loss.teacher_embedding))]
    return embedded[0], embedded[1], loss.student_bank, loss.teacher_bank


@pytest.mark.parametrize("block", [1, 45, 2**20])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_textbook_of_whole_images(book, monkeypatch, block, temperature):
    monkeypatch.setitem(crd.BLOCK, "cpu", block)
    loss = make("batch", temperature=temperature)
    s, t, _, index = inputs(5)
    s.requires_grad_()
    draw = (index[:, None] + 1 + torch.randint(0, 19, (5, 25))) % 20  # never the image itself
    value = loss(s, t, draw=draw, index=index)
    sides = textbook_inputs(book, loss, s.mean((2, 3)), t.mean((2, 3)))
    want = book.crd(*sides, torch.cat([index[:, None], draw], 1), temperature)
    torch.testing.assert_close(value, want)
    wrt = [s, *loss.parameters()]
    torch.testing.assert_close(torch.autograd.grad(value, wrt), torch.autograd.grad(want, wrt))


def test_textbook_of_class_regions(book):
    loss = make()
    s, t, label, index = inputs()
    s.requires_grad_()
    draw = loss.sample(tuple(s.shape), seed=2, index=index.tolist())
    loss(s, t, label, draw=draw, index=index)  # Z comes from the first batch
    value = loss(s, t, label, draw=draw, index=index)
    terms, scores = [], ([], [])
    for n in range(3):
        for c in sorted(set(label[n].flatten().tolist()) - {255}):
            rows = [x[n][:, label[n] == c].mean(1)[None] for x in (s, t)]
            e_s, e_t, b_s, b_t = textbook_inputs(book, loss, *rows)
            others = draw[n][draw[n] % 3 != c]
            slots = torch.cat([index[n : n + 1] * 3 + c, others])[None]
            for side, (v, bank) in enumerate(((e_s, b_t), (e_t, b_s))):
                score = book.scores(v, bank, slots)
                scores[side].append(score.detach()[0])
                terms.append(book.contrast(score / loss.log_z[side].exp(), 60))
    want = 2 * torch.stack(terms).mean()
    assert len(terms) == 2 * 8
    for log_z, counted in zip(loss.log_z, scores, strict=True):
        torch.testing.assert_close(log_z.exp(), 60 * torch.cat(counted).mean())
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(torch.autograd.grad(value, s)[0], torch.autograd.grad(want, s)[0])


def test_normaliser_is_the_first_batch_and_stays():
    loss = make()
    s, t, label, index = inputs()
    first = run(loss.eval(), s, t, label, index)
    assert not loss.started  # evaluation leaves no trace
    torch.testing.assert_close(run(loss.train(), s, t, label, index), first)
    kept = loss.log_z.clone()
    assert loss.started
    run(loss, 3 * t[:, :4], t, label, index)
    torch.testing.assert_close(loss.log_z, kept)


def test_one_negative_by_hand():
    similarity = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    log_z = torch.tensor(math.log(4.0), dtype=torch.float64)  # P = 3/4 and 1/4, noise density 1/2
    noise = torch.ones(1, 1, dtype=torch.bool)
    want = -math.log(0.75 / 1.25) - math.log(0.5 / 0.75)
    assert float(contrast(similarity, noise, log_z, slots=2)) == pytest.approx(want, rel=1e-6)
    assert float(contrast(similarity, ~noise, log_z, slots=2)) == pytest.approx(0, abs=1e-6)
    huge = contrast(torch.tensor([[1e4, -1e4], [-1e4, 1e4]]), noise, torch.tensor(0.0), slots=2)
    torch.testing.assert_close(huge, torch.tensor([0.0, 2e4]), atol=1e-3, rtol=1e-6)


def test_negatives_are_drawn_by_the_image_from_all_slots():
    loss = make("batch", nce_k=4000)
    both = loss.sample((2, 4), seed=9, index=[7, 3])
    assert torch.equal(both[1:], loss.sample((1, 4), seed=9, index=[3]))
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both, loss.sample((2, 4), seed=10, index=[7, 3]))
    counts = torch.bincount(both.flatten(), minlength=20)
    assert len(counts) == 20
    assert int(counts.min()) > 300  # 400 each on average


def test_negatives_of_regions_come_from_written_slots_of_other_classes():
    loss = make()
    s, t, label, index = inputs()
    assert int(loss.sample(tuple(s.shape), seed=0).max()) > 50
    run(loss, s, t, label, index)
    loss.after_step()
    written = loss.written.nonzero()[:, 0]
    want = [int(index[n]) * 3 + c for n in range(3) for c in label[n].unique().tolist() if c != 255]
    assert sorted(want) == written.tolist()
    draw = loss.sample(tuple(s.shape), seed=0)
    assert set(draw.flatten().tolist()) == set(written.tolist())
    run(loss, s, t, label, index)
    value = run(loss, s, t, label, index)
    for bank in (loss.student_bank, loss.teacher_bank):
        bank[~loss.written] = float("nan")
    torch.testing.assert_close(run(loss, s, t, label, index), value)


def test_the_own_slot_and_class_are_no_negatives():
    s, t, label, index = inputs()
    whole, regions = make("batch"), make()
    run(whole, s, t, None, index)
    run(regions, s, t, label, index)
    draw = whole.sample(tuple(s.shape), seed=3)
    more = torch.cat([draw, index[:, None].expand(-1, 9)], 1)
    torch.testing.assert_close(whole(s, t, draw=more, index=index), whole(s, t, draw=draw, index=index))
    one = torch.where(label == 255, 255, 1)
    draw = regions.sample(tuple(s.shape), seed=3)
    more = torch.cat([draw, torch.arange(1, 28, 3).expand(3, -1)], 1)
    torch.testing.assert_close(regions(s, t, one, draw=more, index=index), regions(s, t, one, draw=draw, index=index))


def test_banks_move_once_per_step_by_momentum():
    s, t, label, index = inputs(4)
    whole, parts = make(momentum=0.25), make(momentum=0.25)
    before = whole.student_bank.clone()
    draw = whole.sample(tuple(s.shape), seed=2)
    whole(s, t, label, draw=draw, index=index)
    whole.after_step()
    for half in (slice(2), slice(2, 4)):
        parts(s[half], t[half], label[half], draw=draw[half], index=index[half])
        torch.testing.assert_close(parts.student_bank, before)
    parts.after_step()
    torch.testing.assert_close(parts.student_bank, whole.student_bank)
    torch.testing.assert_close(parts.teacher_bank, whole.teacher_bank)
    n, c = 2, 0
    row = F.normalize(whole.student_embedding(s[n][:, label[n] == c].mean(1)), dim=0)
    slot = int(index[n]) * 3 + c
    torch.testing.assert_close(whole.student_bank[slot], F.normalize(0.25 * before[slot] + 0.75 * row, dim=0).detach())
    torch.testing.assert_close(whole.student_bank[~whole.written], before[~whole.written])
    kept = whole.student_bank.clone()
    whole.after_step()  # nothing came since
    run(whole.eval(), s, t, label, index)
    whole.after_step()
    torch.testing.assert_close(whole.student_bank, kept)


def test_one_slot_twice_in_a_step_is_averaged():
    loss = make("batch", momentum=0.25)
    before = loss.teacher_bank.clone()
    s, t, _, index = inputs(3)
    index[2] = index[0]
    run(loss, s, t, None, index)
    rows = F.normalize(loss.teacher_embedding(t.mean((2, 3))), dim=1).detach()
    loss.after_step()
    for slot, row in ((index[0], (rows[0] + rows[2]) / 2), (index[1], rows[1])):
        torch.testing.assert_close(loss.teacher_bank[slot], F.normalize(0.25 * before[slot] + 0.75 * row, dim=0))


@pytest.mark.parametrize("samples", ["regions", "batch"])
def test_masked_positions_take_no_part(samples):
    loss = make(samples)
    s, t, label, index = inputs()
    valid = torch.rand(3, 3, 5) < 0.6
    valid[1] = False
    value = run(loss, s, t, label, index, valid=valid)
    clean_s, clean_t = s.clone(), t.clone()
    s.movedim(1, 3)[~valid], t.movedim(1, 3)[~valid] = 1e4, -1e4
    s.requires_grad_()
    again = run(loss, s, t, label, index, valid=valid)
    again.backward()
    torch.testing.assert_close(again.detach(), value)
    assert s.grad.movedim(1, 3)[~valid].abs().max() == 0
    if samples == "batch":  # the image without any position is not counted
        two = torch.tensor([0, 2])
        draw = loss.sample((3, 4), seed=1, index=index.tolist())
        short = loss(clean_s[two], clean_t[two], draw=draw[two], index=index[two], valid=valid[two])
        torch.testing.assert_close(short, value)


@pytest.mark.parametrize("samples", ["regions", "batch"])
def test_gradient_is_the_numeric_one_once_z_is_fixed(samples):
    loss = make(samples)
    s, t, label, index = inputs(2)
    run(loss, s, t, label, index)
    assert torch.autograd.gradcheck(lambda x: run(loss, x, t, label, index), s.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("fills", [(0.0, 0.0), (1.0, "noise"), (1e4, -1e4), ("noise", 0.0)])
@pytest.mark.parametrize("samples", ["regions", "batch"])
def test_finite_and_banks_too(dtype, fills, samples):
    s, t = (
        torch.randn(1, c, 1, 2) if fill == "noise" else torch.full((1, c, 1, 2), float(fill))
        for c, fill in zip((4, 7), fills, strict=True)
    )
    loss = make(samples).float()
    torch.nn.init.zeros_(loss.student_embedding.bias)  # a zero vector has a zero embedding
    s = s.to(dtype).requires_grad_()
    for _ in range(2):
        value = run(loss, s, t.to(dtype), torch.zeros(1, 1, 2, dtype=torch.long), torch.tensor([5]))
        value.backward()
        loss.after_step()
    assert all(x.isfinite().all() for x in [value, s.grad, *(p.grad for p in loss.parameters())])
    assert all(x.isfinite().all() for x in loss.state_dict().values())


def test_state_is_saved_and_the_global_generator_stays():
    torch.manual_seed(3)
    want = torch.rand(3)
    torch.manual_seed(3)
    loss, other = make(), make()
    assert torch.equal(torch.rand(3), want)
    s, t, label, index = inputs()
    run(loss, s, t, label, index)
    loss.after_step()
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(run(other, s, t, label, index), run(loss, s, t, label, index))


def train(rank: int | None) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Values and gradients of three steps, one image on rank 0 and two on rank 1, which has no label in the second."""
    torch.manual_seed(0)  # on every rank
    loss, results = make(), []
    part = {None: slice(3), 0: slice(1), 1: slice(1, 3)}[rank]
    for step in range(3):
        s, t, label, index = inputs(3, step)
        index[2] = index[0]  # one image on both ranks
        if step == 1:
            label[1:] = 255
        s = s[part].requires_grad_()
        value = run(loss, s, t[part], label[part], index[part], seed=step)
        value.backward()
        loss.after_step()
        results += [value.detach(), s.grad]
    return results, {**loss.state_dict(), **{f"{k}.grad": p.grad for k, p in loss.named_parameters()}}


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
    for name, value in state.items():
        if name.endswith("grad"):
            torch.testing.assert_close((first_state[name] + second_state[name]) / 2, value)
        else:
            torch.testing.assert_close(first_state[name], second_state[name], rtol=0, atol=0)
            torch.testing.assert_close(first_state[name], value)


def test_mistakes_are_named():
    s, t, label, index = inputs()
    unprepared = ContrastiveRepresentation()
    with pytest.raises(UserError, match="prepare"):
        unprepared(s, t, label, index=index)
    with pytest.raises(UserError, match="prepare"):
        unprepared.sample((3, 4, 3, 5), seed=0)
    with pytest.raises(UserError, match="index="):
        make()(s, t, label)
    for wrong in (20, -1):
        with pytest.raises(UserError, match=f"sample {wrong} is not from 0 to below n_data=20"):
            run(make(), s, t, label, torch.tensor([3, wrong, 4]))
    with pytest.raises(UserError, match="needs the labels"):
        run(make(), s, t, None, index)
    for wrong in (7, -1):
        with pytest.raises(UserError, match=f"label is {wrong}, but num_classes"):
            run(make(), s, t, label.masked_fill(label == 2, wrong), index)
    with pytest.raises(UserError, match="valid mask is"):
        run(make(), s, t, label, index, valid=label[:, 1:])
    with pytest.raises(UserError, match=r"a pooled tap .* has no positions .* masked=False"):
        run(make("batch"), s.mean((2, 3)), t.mean((2, 3)), None, index, valid=label >= 0)
    with pytest.raises(UserError, match="'regions'"):
        make("region")
    with pytest.raises(UserError, match="from 2"):
        make(num_classes=1)
    with pytest.raises(UserError, match="momentum"):
        make(momentum=1.0)
    with pytest.raises(UserError, match="temperature"):
        make(temperature=0.0)
