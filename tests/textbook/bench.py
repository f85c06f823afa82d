"""Every loss against its textbook form: time and peak memory of forward + backward, interleaved in one process.

    python tests/textbook/bench.py [--only nst,fsp] [--json FILE] [--markdown]

Both sides get the same tensors and give the same value but for the published scale (the tests show it). A ratio above 1
means that segkd's form is faster or smaller. Time is the best of the repeats, taken in turns; memory is the growth of
the process's high-water mark over one call, the least of three. ``OMP_WAIT_POLICY=PASSIVE`` slows what consists of many
small operations (``rkd`` 4 times on 2 cores, hardly its textbook form): leave it unset here.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkd.cli.common import console
from segkd.evaluation.speed import compare_latency, measure_memory
from segkd.losses import create
from segkd.report.tables import write_json
from segkd.training.environment import environment

HERE = Path(__file__).resolve().parent
FEATURE, LOGITS, FULL = (4, 128, 64, 128), (4, 19, 64, 128), (2, 19, 512, 1024)
CASES: dict[str, Callable[[], Case]] = {}
#: what is asked of the losses that have a cheap identical form: at least these ratios of time and memory
ASKED = {"nst": (20, 30), "fsp": (40, 60), "skd_pair": (20, 50), "ifvd": (15, 15), "crd": (4, 15), "cirkd": (0.85, 6)}
OTHERS = 0.95
#: of these a part alone is compared; what the whole method costs is measured besides
WHOLE = ("ft", "knowledge_adaptation", "cirkd", "af_dcd")


class Case(NamedTuple):
    """Both sides, and the tensors whose gradient is taken."""

    shape: str
    ours: Callable[[], Tensor]
    textbook: Callable[[], Tensor]
    leaves: tuple[Tensor, ...]


def case(name: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Register a case under the loss's name."""

    def register(make: Callable[[], Case]) -> Callable[[], Case]:
        CASES[name] = make
        return make

    return register


def form(name: str = "") -> ModuleType:
    """The textbook file of a loss."""
    path = HERE / (f"forms_{name}.py" if name else "forms.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pair(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Student (with gradient) and teacher."""
    source = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(shape, generator=source) for _ in range(2))
    return student.requires_grad_(), teacher


def labels(shape: tuple[int, ...], classes: int = 19) -> Tensor:
    """(N, H, W) of blocks of 8 x 8 of a class, a tenth of them ignored."""
    n, _, h, w = shape
    source = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, classes, (n, (h + 7) // 8, (w + 7) // 8), generator=source)
    coarse[torch.rand(coarse.shape, generator=source) < 0.1] = 255
    return coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :h, :w].contiguous()


def simple(
    name: str, shape: tuple[int, ...], textbook: Callable[[Tensor, Tensor], Tensor], label: bool = False, **kwargs: Any
) -> Case:
    """A loss of one tap without own parameters."""
    loss = create(name, **kwargs)
    student, teacher = pair(shape)
    loss.prepare([shape], [shape], [])
    given = (labels(shape),) if label else ()
    draw = loss.sample(shape, seed=0)
    size = "x".join(map(str, shape))
    return Case(size, lambda: loss(student, teacher, *given, draw=draw), lambda: textbook(student, teacher), (student,))


def rows(name: str, count: int, textbook: Callable[[Tensor, Tensor], Tensor], **kwargs: Any) -> Case:
    """A relation loss on ``count`` samples of 128 numbers."""
    loss = create(name, samples="batch", **kwargs)
    student, teacher = pair((count, 128, 1, 1))
    flat = teacher.flatten(1)
    return Case(
        f"{count} x 128", lambda: loss(student, teacher), lambda: textbook(student.flatten(1), flat), (student,)
    )


def backward(call: Callable[[], Tensor], leaves: tuple[Tensor, ...]) -> Callable[[], None]:
    """Forward and backward; no gradient is kept."""

    def run() -> None:
        call().backward()
        for leaf in leaves:
            leaf.grad = None

    return run


@case("kd")
def kd() -> Case:
    return simple("kd", FULL, lambda s, t: form().kd_cirkd(s, t, 1.0), temperature=1.0)


@case("skd_pixel")
def skd_pixel() -> Case:
    textbook = form("skd_pixel").skd_pixelwise
    return simple("skd_pixel", FULL, textbook)


@case("dkd")
def dkd() -> Case:
    textbook, label = form("dkd").dkd_rows, labels(FULL)
    target = label.flatten()
    counted = target != 255

    def flat(s: Tensor, t: Tensor) -> Tensor:
        s, t = (x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])[counted] for x in (s, t))
        value: Tensor = textbook(s, t, target[counted], 1.0, 0.5, 1.0)
        return value

    return simple("dkd", FULL, flat, label=True)


@case("dist")
def dist() -> Case:
    return simple("dist", FULL, form("dist").dist_published)


@case("logit_standardization")
def logit_standardization() -> Case:
    textbook = form("logit_standardization").kd_torchdistill

    def flat(s: Tensor, t: Tensor) -> Tensor:
        value: Tensor = textbook(*(x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) for x in (s, t)))
        return value

    return simple("logit_standardization", FULL, flat)


@case("cwd")
def cwd() -> Case:
    return simple("cwd", FEATURE, lambda s, t: form().cwd_cirkd(s, t, 4.0), temperature=4.0)


@case("fitnet")
def fitnet() -> Case:
    return simple("fitnet", FEATURE, form("fitnet").hint_published)


@case("at")
def at() -> Case:
    return simple("at", FEATURE, form().at_repdistiller)


@case("ab")
def ab() -> Case:
    return simple("ab", FEATURE, form("ab").ab_layer_sum)


@case("ofd")
def ofd() -> Case:
    loss = create("ofd")
    student, teacher = pair(FEATURE)
    norm = torch.nn.BatchNorm2d(FEATURE[1])
    loss.prepare([FEATURE], [FEATURE], [norm])
    textbook = form("ofd").ofd_published
    return Case(
        "x".join(map(str, FEATURE)),
        lambda: loss(student, teacher),
        lambda: textbook(student, teacher, loss.margin),
        (student,),
    )


@case("vid")
def vid() -> Case:
    loss = create("vid")
    student, teacher = pair(FEATURE)
    loss.prepare([FEATURE], [FEATURE], [])
    weights = [p for name, p in loss.named_parameters() if name != "log_scale"]
    textbook = form("vid").vid_published
    return Case(
        "x".join(map(str, FEATURE)),
        lambda: loss(student, teacher),
        lambda: textbook(student, teacher, weights, loss.log_scale),
        (student, *loss.parameters()),
    )


@case("nst")
def nst() -> Case:
    return simple("nst", FEATURE, form("nst").nst)


@case("fsp")
def fsp() -> Case:
    loss = create("fsp")
    (s1, t1), (s2, t2) = pair(FEATURE), pair(FEATURE, seed=1)
    textbook = form("fsp").fsp
    return Case(
        "x".join(map(str, FEATURE)) + " twice",
        lambda: loss((s1, s2), (t1, t2)),
        lambda: textbook((s1, s2), (t1, t2)),
        (s1, s2),
    )


@case("mgd")
def mgd() -> Case:
    loss, textbook = create("mgd"), form("mgd").mgd
    student, teacher = pair(FEATURE)
    loss.prepare([FEATURE], [FEATURE], [])
    draw = loss.sample(FEATURE, seed=0)
    block = dict(loss.generation.named_parameters())
    return Case(
        "x".join(map(str, FEATURE)),
        lambda: loss(student, teacher, draw=draw),
        lambda: textbook(student, teacher, draw, block),
        (student, *loss.parameters()),
    )


@case("ft")
def ft() -> Case:
    from segkd.losses.ft import factor_transfer

    student, teacher = pair(FEATURE)
    textbook = form("ft").ft
    return Case(
        "x".join(map(str, FEATURE)) + " (factors)",
        lambda: factor_transfer(student, teacher),
        lambda: textbook(student, teacher),
        (student,),
    )


@case("sp")
def sp() -> Case:
    return rows("sp", 1024, form("sp").sp_repdistiller)


@case("cc")
def cc() -> Case:
    forms = form("cc")
    return rows("cc", 512, lambda s, t: forms.cc_paper(forms.gaussian(s, 0.4, 2), forms.gaussian(t, 0.4, 2)))


@case("rkd")
def rkd() -> Case:
    textbook = form("rkd").rkd_repdistiller
    return rows("rkd", 256, lambda s, t: textbook(s, t, 25.0, 50.0))


@case("pkt")
def pkt() -> Case:
    return rows("pkt", 1024, form("pkt").pkt_repdistiller)


@case("crd")
def crd() -> Case:
    loss = create("crd", samples="batch", n_data=50_000, nce_k=16384).eval()
    student, teacher = pair((64, 128))
    loss.prepare([(64, 128)], [(64, 128)], [])
    index = torch.arange(64)
    draw = loss.sample((64, 128), seed=0, index=index.tolist())
    slots = torch.cat([index[:, None], draw], 1)
    forms = form("crd")

    def textbook() -> Tensor:
        sides = ((student, loss.student_embedding), (teacher, loss.teacher_embedding))
        embedded = [forms.embed(x, side.weight, side.bias) for x, side in sides]
        value: Tensor = forms.crd(*embedded, loss.student_bank, loss.teacher_bank, slots)
        return value

    leaves = (student, *loss.parameters())
    return Case("64 x 128, K=16384", lambda: loss(student, teacher, draw=draw, index=index), textbook, leaves)


@case("skd_pair")
def skd_pair() -> Case:
    return simple("skd_pair", FEATURE, form("skd_pair").skd)


@case("skd_holistic")
def skd_holistic() -> Case:
    """What the critic lowers: both its scores and the gradient penalty, through every second derivative."""
    shape = (4, 19, 64, 128)
    loss = create("skd_holistic", conditional=False)
    student, teacher = pair(shape)
    loss.prepare([shape], [shape], [])
    critic, forms = loss.critic, form("skd_holistic")
    with torch.no_grad():
        for attention in critic.attentions:
            attention.gamma.fill_(0.1)
    draw = loss.sample(shape, seed=0)
    alpha = draw.reshape(-1, 1, 1, 1)
    held = {f"l{k}.0.module.weight_{x}": getattr(s, x) for k, s in enumerate(critic.stages, 1) for x in "uv"}
    held |= {f"l{k}.0.module.weight_bar": s.weight for k, s in enumerate(critic.stages, 1)}
    held |= {f"l{k}.0.module.bias": s.bias for k, s in enumerate(critic.stages, 1)}
    for k, attention in enumerate(critic.attentions, 1):
        held |= {f"attn{k}.{n.replace('.', '_conv.')}": p for n, p in attention.named_parameters()}
    held |= {f"last.0.{n}": p for n, p in critic.score.named_parameters()}

    def textbook() -> Tensor:
        s, t = student.detach().softmax(1), teacher.softmax(1)
        value: Tensor = forms.critic_term(forms.critic(s, held), forms.critic(t, held), "wgan-gp")
        return value + loss.lambda_gp * forms.penalty(lambda x: forms.critic(x, held).flatten(1).mean(1), s, t, alpha)

    ours = partial(loss.critic_loss, student, teacher, image=None, draw=draw)
    return Case("x".join(map(str, shape)) + " (critic)", ours, textbook, tuple(critic.parameters()))


@case("knowledge_adaptation")
def knowledge_adaptation() -> Case:
    from segkd.losses.knowledge_adaptation import affinity

    shape = (4, 64, 16, 32)
    student, teacher = pair(shape)
    textbook = form("knowledge_adaptation").affinity
    return Case(
        "x".join(map(str, shape)) + " (affinity)",
        lambda: affinity(student, teacher),
        lambda: textbook(student, teacher),
        (student,),
    )


@case("ifvd")
def ifvd() -> Case:
    textbook, label = form("ifvd").ifvd, labels(FEATURE)
    return simple("ifvd", FEATURE, lambda s, t: textbook(s, t, label, 19), label=True)


@case("cirkd")
def cirkd() -> Case:
    shape = (4, 128, 32, 64)
    own = simple("cirkd", shape, form("cirkd").minibatch_pixel, lambda_memory_pixel=0.0, lambda_memory_region=0.0)
    return own._replace(shape="x".join(map(str, shape)) + " (mini-batch)")


@case("af_dcd")
def af_dcd() -> Case:
    from segkd.losses.af_dcd import omni_contrast

    student, teacher = pair(FEATURE)
    textbook = form("af_dcd").omni_contrast
    return Case(
        "x".join(map(str, FEATURE)) + " (contrast)",
        lambda: omni_contrast(student, teacher),
        lambda: textbook(student, teacher, 0.07, 16, 4, 4),
        (student,),
    )


def least_memory(run: Callable[[], None]) -> float:
    """MiB of the call that needed least: what the allocator takes ahead differs from call to call."""
    return min(measure_memory(run).mib for _ in range(3))


def whole(name: str) -> Case:
    """A method of which only a part is compared, with all its parts; both sides are its own."""
    shape = (4, 128, 32, 64) if name == "cirkd" else FEATURE
    loss, (student, teacher) = create(name), pair(shape)
    loss.prepare([shape], [shape], [])
    for queue in getattr(loss, "queues", {}).values():
        queue.entries.copy_(torch.nn.functional.normalize(torch.randn_like(queue.entries), dim=2))
        queue.filled.fill_(queue.entries.shape[1])
    label, draw = labels(shape), loss.sample(shape, seed=0)
    ours = partial(loss, student, teacher, label, draw=draw)
    leaves = (student, *(p for p in loss.parameters() if p.requires_grad))
    return Case("x".join(map(str, shape)), ours, ours, leaves)


def cost(name: str, repeats: int) -> dict[str, Any]:
    """One row of the table of whole methods."""
    made = whole(name)
    run = backward(made.ours, made.leaves)
    mib = least_memory(run)
    latency = compare_latency({name: run}, warmup=1, repeats=repeats)[name]
    return {"loss": name, "shape": made.shape, "ms": round(latency.min_ms, 1), "mib": round(mib)}


def whole_table(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows in Markdown, as ``configs/recipes/README.md`` shows them."""
    lines = ["| loss | N x C x H x W | ms | MiB |", "|" + "---|" * 4]
    return lines + [f"| `{row['loss']}` | {row['shape']} | {row['ms']:.0f} | {row['mib']:.0f} |" for row in measured]


def compare(name: str, made: Case, repeats: int) -> dict[str, Any]:
    """One row of the table."""
    sides = {"segkd": backward(made.ours, made.leaves), "textbook": backward(made.textbook, made.leaves)}
    memory = {side: least_memory(run) for side, run in sides.items()}
    times = compare_latency(sides, warmup=1, repeats=repeats)
    milliseconds = {side: latency.min_ms for side, latency in times.items()}
    return {
        "loss": name,
        "shape": made.shape,
        "ms": round(milliseconds["segkd"], 2),
        "textbook_ms": round(milliseconds["textbook"], 2),
        "time_ratio": round(milliseconds["textbook"] / milliseconds["segkd"], 2),
        "mib": round(memory["segkd"], 1),
        "textbook_mib": round(memory["textbook"], 1),
        "memory_ratio": round(memory["textbook"] / max(memory["segkd"], 1.0), 2),
        "asked": list(ASKED.get(name, (OTHERS, 0))),
    }


def table(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows in Markdown, as ``configs/recipes/README.md`` shows them."""
    lines = ["| loss | N x C x H x W | ms | textbook | ratio | MiB | textbook | ratio |", "|" + "---|" * 8]
    for row in measured:
        time = f"{row['ms']:.1f} | {row['textbook_ms']:.1f} | {row['time_ratio']:.1f}"
        memory = f"{row['mib']:.0f} | {row['textbook_mib']:.0f} | {row['memory_ratio']:.1f}"
        lines.append(f"| `{row['loss']}` | {row['shape']} | {time} | {memory} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--json", default=str(HERE / "bench.json"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--markdown", action="store_true", help="end with the tables as configs/recipes/README.md has them"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = args.only.split(",") if args.only else list(CASES)
    found = []
    for name in names:
        row = compare(name, CASES[name](), args.repeats)
        found.append(row)
        enough = row["time_ratio"] >= row["asked"][0] and row["memory_ratio"] >= row["asked"][1]
        verdict = "" if enough else f"   below what is asked: {row['asked']}"
        console.print(
            f"{name:22} {row['shape']:18} {row['ms']:9.1f} ms  {row['textbook_ms']:9.1f} ms  x{row['time_ratio']:<7} "
            f"{row['mib']:7.0f} MiB {row['textbook_mib']:7.0f} MiB  x{row['memory_ratio']:<7}{verdict}"
        )
    wholes = [cost(name, args.repeats) for name in WHOLE if name in names]
    for row in wholes:
        console.print(
            f"{row['loss']:22} {row['shape']:18} {row['ms']:9.1f} ms  {row['mib']:7.0f} MiB   the whole method"
        )
    if args.markdown:
        console.print("\n".join(table(found)), markup=False, highlight=False, soft_wrap=True)
        console.print("\n".join(whole_table(wholes)), markup=False, highlight=False, soft_wrap=True)
    write_json(args.json, {"repeats": args.repeats, "rows": found, "whole": wholes, **environment(0)})


if __name__ == "__main__":
    main()
