"""What each term of a distillation pulls at the student, beside its labels."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segkd.datasets import SegmentationDataset
from segkd.distiller import Distiller
from segkd.segmentor import gradient_norms, layers_run
from segkd.training.build import build_train_loader
from segkd.training.config import Config
from segkd.weight_schedule import WeightSchedule
from segkd.workbench import Progress, silent

TASK = ""  # no name of a bind
BIND = "loss_bind_"
LARGEST_BATCH = 8  # images: a larger batch of the config is cut, as its mean gradient is much the same


class Pull(NamedTuple):
    """The gradient of one term where the terms meet, of several batches the median.

    term, loss: name of the bind, and the class of its loss.
    weight: of the bind; 0 is a term that takes no part in the main training, which is not measured.
    layer: path of the last layer that all of them reach; None where they share none: then it is all of the student.
    norm: of the term at weight 1.
    ratio: of the term with its weight to the labels' terms together, batch by batch.
    first_stage: True if parts of the loss are trained before the main training, and are not yet.
    """

    term: str
    loss: str
    weight: float
    layer: str | None
    norm: float
    ratio: float
    first_stage: bool


class _Measured(NamedTuple):
    """Of one term and one batch: the layer, the norm of the term's gradient there, and of the labels'."""

    layer: str | None
    norm: float
    task: float


def measure_pulls(
    cfg: Config,
    model: Distiller,
    dataset: SegmentationDataset,
    device: torch.device,
    batches: int = 3,
    apart: Collection[str] = (),
    progress: Progress = silent,
) -> list[Pull]:
    """The pull of every bind of ``model`` at the student as it is, on the config's first batches, in float32.

    Schedules are left out: each term has its full weight. The model is not used afterwards: its BatchNorm statistics
    and the losses' memories have changed.

    Args:
        apart: names of binds that are measured where they alone meet the labels, and are no company to the others.
    """
    binds = {name: bind for name, bind in model.terms().items() if bind.weight > 0}
    for bind in model.terms().values():
        bind.schedule = WeightSchedule()
    data = replace(cfg.data, workers=0, batch_size=min(cfg.data.batch_size, LARGEST_BATCH))
    groups = [[name for name in binds if name not in apart], *([name] for name in binds if name in apart)]
    model.to(device).train()
    found: list[dict[str, _Measured]] = []
    with closing(build_train_loader(replace(cfg, data=data), dataset, 0, batches)) as loader:
        for number, batch in enumerate(loader):
            found.append(_measure(model, {key: value.to(device) for key, value in batch.items()}, number, groups))
            progress("measuring the terms", number + 1, batches)
    return [_pull(name, bind, [measured[name] for measured in found]) for name, bind in binds.items()]


def _measure(
    model: Distiller, batch: Mapping[str, Tensor], step: int, groups: Sequence[Sequence[str]]
) -> dict[str, _Measured]:
    """Every bind on one batch, each where its group and the labels meet."""
    with layers_run(model.student) as ran:
        terms = model.losses(step=step, **batch)
    task = torch.stack([value for name, value in terms.items() if not name.startswith(BIND)]).sum()
    found: dict[str, _Measured] = {}
    for group in groups:
        norms = gradient_norms({TASK: task} | {name: terms[BIND + name] for name in group}, model.student, ran)
        at = norms.network if norms.layer is None else norms.shared
        found |= {name: _Measured(norms.layer, at[name], at[TASK]) for name in group}
    return found


def _pull(name: str, bind: Any, found: Sequence[_Measured]) -> Pull:
    ratios = [one.norm / one.task for one in found if one.task > 0]
    return Pull(
        term=name,
        loss=type(bind.loss).__name__,
        weight=bind.weight,
        layer=found[0].layer,
        norm=statistics.median(one.norm for one in found) / bind.weight,
        ratio=statistics.median(ratios) if ratios else float("nan"),
        first_stage=bind.first_stage is not None,
    )
