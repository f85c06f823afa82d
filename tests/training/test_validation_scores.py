"""The scores of a validation: by names, in windows, and by metrics of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segkd.errors import UserError
from segkd.evaluation.inference import with_views
from segkd.evaluation.looking import Views
from segkd.evaluation.miou import MeanIoU
from segkd.models import Network
from segkd.training.config import Config
from segkd.training.validation import build_metrics, class_scores, score

DATA = SimpleNamespace(num_classes=3, class_names=["a", "b", "c"])
BASE: dict[str, Any] = {
    "model": {"type": "segkd.segmentor.Segmentor"}, "data": {"dataset": {}, "augment": {}},
    "optim": {"optimizer": {}}, "schedule": {"steps": 1},
}  # fmt: skip


class Toy(Network):
    """Logits of a convolution: what is seen depends on the window's border."""

    def __init__(self) -> None:
        super().__init__(3)
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def batches() -> list[dict[str, Tensor]]:
    numbers = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (4, 1, 3, 40, 50), dtype=torch.uint8, generator=numbers)
    label = torch.randint(0, 3, (4, 1, 40, 50), generator=numbers)
    label[:, :, :3] = 255
    return [
        {"image": a, "label": b, "index": torch.tensor([k])} for k, (a, b) in enumerate(zip(image, label, strict=True))
    ]


class Seen:
    """A metric of one's own: it is given int64, as torchmetrics wants it."""

    def reset(self) -> None:
        self.maps: list[Tensor] = []

    def update(self, prediction: Tensor, label: Tensor) -> None:
        assert prediction.dtype == label.dtype == torch.int64
        self.maps.append(prediction)

    def compute(self) -> float:
        return float(len(self.maps))


def test_named_metrics_are_those_of_the_windowed_network() -> None:
    network, own, seen = Toy(), Seen(), []
    views = Views(flip=True, window=(32, 32), stride=(20, 20))
    metrics = build_metrics(["miou", "f1", "ece", own], DATA, "mIoU")
    found = score(network, batches(), metrics, lambda *args: seen.append(args[0]), views)
    plain = MeanIoU(3)
    predict = with_views(network.predict, flip=True, window=(32, 32), stride=(20, 20))
    for batch in batches():
        with torch.no_grad():
            plain.update(predict(batch["image"]).argmax(1), batch["label"])
    assert found["mIoU"] == pytest.approx(plain.compute()["mIoU"], abs=0.01)
    assert set(found) == {"mIoU", "F1", "ECE", "Seen"}
    assert found["Seen"] == 4
    assert seen == [0, 1, 2, 3]
    assert class_scores(metrics) == pytest.approx(plain.per_class(), abs=0.01)
    whole = score(network, batches(), [MeanIoU(3)], lambda *args: None)
    assert abs(whole["mIoU"] - found["mIoU"]) > 0.01


def test_instances_are_asked_for_where_a_metric_needs_them() -> None:
    objects = np.full((40, 50), -1)
    objects[10:20, 10:20], objects[30:35, :5] = 1000, 1001
    data = SimpleNamespace(**vars(DATA), instance_sizes={"b": 50.0}, instances_of=lambda index: objects)
    found = score(Toy(), batches(), build_metrics(["iiou"], data, "iIoU"), lambda *a: None, None, data.instances_of)
    assert 0 < found["iIoU"] < 100


@pytest.mark.parametrize(
    ("given", "best", "says"),
    [
        ("miou", "mIoU", "metrics must be a list of names and of dict"),
        (["f1"], "mIoU", "engine.best='mIoU' is none of the scores; there is: F1"),
        (["ece", "f1"], "ECE", "is the better the smaller it is"),
        (["iiou"], "iIoU", "needs the instances of the truth, and SimpleNamespace has none"),
        ([dict(type="collections.OrderedDict")], "mIoU", "is no metric: it needs the methods reset"),
    ],
)
def test_metrics_that_cannot_be(given: Any, best: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_metrics(given, DATA, best)


def test_the_config_is_checked_as_it_is_read() -> None:
    cfg = Config.of({**BASE, "evaluation": {"window": [64, 96], "scales": [0.5, 1]}, "metrics": ["miou"]})
    assert cfg.evaluation.views() == Views(False, (0.5, 1.0), (64, 96))
    assert cfg.evaluation.views(window=(32, 32), flip=True).window == (32, 32)
    wrong: list[tuple[Mapping[str, Any], str]] = [
        ({"evaluation": {"window": (64, 64), "stride": (65, 1)}}, "evaluation: windows of 64x64 moved by 65x1"),
        ({"evaluation": {"stride": (5, 5)}}, "evaluation: a stride is that of windows"),
        ({"evaluation": {"window": (8, 64)}}, "evaluation.window must be an integer from 32, got 8"),
        ({"evaluation": {"flips": True}}, "did you mean 'flip'"),
        ({"metrics": ["miuo"]}, "unknown metric 'miuo'; did you mean 'miou'"),
    ]
    for keys, says in wrong:
        with pytest.raises(UserError, match=says):
            Config.of({**BASE, **keys})


def test_a_stride_of_the_config_belongs_to_its_window() -> None:
    cfg = Config.of({**BASE, "evaluation": {"window": (64, 64), "stride": (60, 60)}})
    assert cfg.evaluation.views(window=(40, 40)).stride is None
    assert cfg.evaluation.views(stride=(7, 7)).stride == (7, 7)


def test_names_in_the_table_are_those_of_the_metrics() -> None:
    from segkd.evaluation.metric import METRICS
    from segkd.report.tables import METRICS as TITLES

    titles = {name: METRICS.get(name).title for name in METRICS.names()}
    assert {name: title.replace("\n", " ") for name, title in TITLES.items()} | {"miou": "mIoU"} == titles


def test_a_training_validates_as_its_config_says(tmp_path: Path) -> None:
    import segkd

    run = segkd.train(
        "fast_scnn", data="synthetic", steps=1, out=tmp_path / "run", preflight=False, progress=False,
        overrides=["data.augment.crop_size=32,64", "data.dataset.size=64,96", "data.val.length=2", "data.workers=0",
                   "data.train.length=8", "data.batch_size=2", "engine.val_images=0", "evaluation.window=32,64",
                   "metrics=['miou','boundary_iou']", "engine.best=boundary IoU"],
    )  # fmt: skip
    assert set(run.history[-1]["val"]) == {"mIoU", "boundary IoU"}
    found = run.evaluate(speed=False, window=(32, 64), metrics=("boundary_iou",), progress=False)
    row = found.rows[0]
    assert row["boundary_iou"] == pytest.approx(run.metrics["val_best"]["boundary IoU"], abs=0.05)
    assert row["miou"] == pytest.approx(run.history[-1]["val"]["mIoU"], abs=0.05)
