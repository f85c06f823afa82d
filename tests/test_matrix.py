"""Any student by any recipe, and any recipe of any kind of teacher: each is composed, built and takes a step."""

from __future__ import annotations

import copy
import datetime
import json
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from segkd.distiller import Distiller
from segkd.models import Network, catalogue
from segkd.models.own import OwnNetwork
from segkd.registry import build
from segkd.workbench.composing import RECIPE, compose, parts

RESULTS = Path(__file__).parent / "full" / "matrix.json"
SIZE = (64, 96)
SCENES = dict(type="synthetic", size=SIZE, length=8)
STUDENTS = [label for label, entry in catalogue.catalogue().items() if entry.kind in ("student", "backbone")]
#: kind of teacher -> a small one of it
TEACHERS = {
    "segkd": "espnet",
    "smp": "deeplabv3plus_r18",
    "smp with a transformer": "segformer_b0",
    "torchvision": "lraspp_mobilenetv3",
    "timm": "light_fpn_convnext_atto",
    "own module": "",
}
RECIPES = parts(RECIPE)
#: in the default suite: roles, connectors, memories, first stages and critics of all kinds
QUICK_STUDENTS = ("espnet", "pidnet_s", "swiftnet_rn18", "light_fpn_mobilenetv3_small_100")
QUICK_RECIPES = ("kd_cwd", "mgd", "ofd", "fsp", "skd", "cirkd", "feature_first")


class Plain(torch.nn.Module):
    """A network that knows nothing of segkd: three stages, a head, a dict of logits at a quarter of the size."""

    def __init__(self) -> None:
        super().__init__()
        nn, wide = torch.nn, (16, 32, 48)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU())
            for i, o in zip((3, *wide), wide, strict=False)
        )
        self.head = nn.Sequential(nn.Conv2d(48, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.last = nn.Conv2d(24, 11, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, 3, H, W) -> {"out": (N, 11, H / 8, W / 8)}."""
        for stage in self.body:
            x = stage(x)
        return {"out": self.last(self.head(x))}


@cache
def teacher(kind: str) -> Network:
    torch.manual_seed(7)
    label = TEACHERS[kind]
    return (catalogue.entry(label).build(11) if label else OwnNetwork(Plain(), 11)).eval()


def take_step(student: str, recipe: str, kind: str) -> None:
    """Build the distillation; the first stages' losses and all terms are finite, and the recipe's reach the student."""
    cfg = compose(student, teacher=teacher(kind), recipe=recipe, data=SCENES, words=dict(steps=100))
    binds: dict[str, Any] = copy.deepcopy(cfg["model"]["binds"])
    torch.manual_seed(0)
    model = build(cfg["model"] | dict(binds=binds, probe_size=SIZE), "model")
    assert isinstance(model, Distiller)
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=generator)
    label = torch.randint(0, 11, (2, 8, 12), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
    label[:, :4] = 255
    index = torch.tensor([0, 1])
    model.train()
    for name, bind in model.terms().items():
        if bind.scale_unknown:
            features = model.taught({name: bind}, image)[name].values()
            bind.set_scale(float(torch.stack([f.square().mean() for f in features]).mean().sqrt()))
        if bind.first_stage is not None:
            assert math.isfinite(float(model.first_stage_loss(name, image, label, index, 0).detach())), name
    terms = model.losses(image, label, 90, index)  # after every warm-up
    assert all(math.isfinite(float(value.detach())) for value in terms.values()), terms
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    for name, bind in model.terms().items():
        # of a map of 1 x 2 positions, MGD's mask may leave none in a step
        assert not bind.weight or any(teaches(model, name, image, label, step) for step in range(90, 100)), name
    for loss in model.critic_losses().values():
        assert math.isfinite(float(loss.detach()))


def teaches(model: Distiller, name: str, image: torch.Tensor, label: torch.Tensor, step: int) -> bool:
    """True if a term has a gradient to the student."""
    value = model.losses(image, label, step, torch.tensor([0, 1]))[f"loss_bind_{name}"]
    shares = torch.autograd.grad(value, list(model.student.parameters()), allow_unused=True)
    return any(share is not None and bool(share.any()) for share in shares)


@pytest.mark.parametrize("recipe", QUICK_RECIPES)
@pytest.mark.parametrize("student", QUICK_STUDENTS)
def test_students_learn_by_recipes(student: str, recipe: str) -> None:
    take_step(student, recipe, "smp")


@pytest.mark.parametrize("kind", [kind for kind in TEACHERS if kind != "smp"])
@pytest.mark.parametrize("recipe", ["mgd", "ofd"])
def test_teachers_of_any_kind_teach(kind: str, recipe: str) -> None:
    take_step("fast_scnn", recipe, kind)


@pytest.mark.slow
@pytest.mark.parametrize("student", STUDENTS)
def test_every_student_learns_by_every_recipe(student: str) -> None:
    for recipe in RECIPES:
        take_step(student, recipe, "smp")
    record(f"{student} of smp's {TEACHERS['smp']}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEACHERS)
def test_every_kind_of_teacher_teaches_by_every_recipe(kind: str) -> None:
    for recipe in RECIPES:
        take_step("fast_scnn", recipe, kind)
    record(f"fast_scnn of {kind}: {TEACHERS[kind] or 'Plain'}")


def record(row: str) -> None:
    """Write, in `make test-full`, that a row of the table took its steps by all recipes."""
    if os.environ.get("SEGKD_RECORD"):
        content = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        content[row] = {"recipes": len(RECIPES), "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        RESULTS.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")


@pytest.mark.slow
def test_the_last_full_run_had_every_pair() -> None:
    rows = json.loads(RESULTS.read_text())
    wanted = {f"{student} of smp's {TEACHERS['smp']}" for student in STUDENTS}
    wanted |= {f"fast_scnn of {kind}: {TEACHERS[kind] or 'Plain'}" for kind in TEACHERS}
    assert set(rows) == wanted  # a row missing: run make test-full
    assert all(row["recipes"] == len(RECIPES) for row in rows.values())
