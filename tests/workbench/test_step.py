"""A training step taken apart: what is slow on purpose is found in its part, and the parts make the whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from segkd import segmentor
from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.losses.kd import PixelwiseKD
from segkd.models.base import FeatureInfo, Network
from segkd.segmentor import Segmentor
from segkd.supervision import AuxHead, CrossEntropy
from segkd.training import steps
from segkd.training.loop import Training
from segkd.training.precision import Precision
from segkd.training.steps import Stretch, take_step
from segkd.workbench.bare_loop import BareLoop
from segkd.workbench.step import RARE, WARM_UP, StepTimes, time_step

LONG = 0.08  # seconds that a slow part takes
REPEATS = 2
SUPERVISION = dict(main={}, aux=dict(tap="body", head=dict(type=AuxHead), weight=0.4))
LOGITS = dict(student="classifier", teacher="classifier")
KD = dict(kd=dict(LOGITS, loss=dict(type="kd")))
SKD = dict(pair=dict(LOGITS, loss=dict(type="skd_pair")), holistic=dict(LOGITS, loss=dict(type="skd_holistic")))


class SlowHook:
    """Sleeps in every step, and notes when each began."""

    began: list[float] = []
    seconds = LONG

    def before_train_iter(self, training: Any, batch_idx: int, data_batch: Any) -> None:
        self.began.append(time.perf_counter())
        time.sleep(self.seconds)


class SlowStreets(SyntheticStreets):
    """Takes its time with each image."""

    def __getitem__(self, index: int) -> Any:
        time.sleep(LONG / 2)
        return super().__getitem__(index)


class SlowKD(PixelwiseKD):
    """Takes its time with the value, and as long for the gradient."""

    def forward(self, student: Any, *args: Any, **options: Any) -> Tensor:
        time.sleep(LONG)
        value: Tensor = super().forward(student, *args, **options)
        value.register_hook(lambda grad: time.sleep(LONG))
        return value


class SlowEntropy(CrossEntropy):
    """Takes its time."""

    def forward(self, *args: Any) -> Tensor:
        time.sleep(LONG)
        value: Tensor = super().forward(*args)
        return value


class SlowAdam(torch.optim.Adam):
    """Takes its time."""

    def step(self, closure: Any = None) -> Any:
        time.sleep(LONG)
        return super().step(closure)


class Plain(Network):
    """Two layers, so that what is slow on purpose is the slowest by far."""

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__(num_classes)
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.classifier = nn.Conv2d(width, num_classes, 3, 1, 1)
        self.feature_info = (FeatureInfo("body", width, 2), FeatureInfo("classifier", num_classes, 2))

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.classifier(self.body(x)), x.shape[-2:])


class SlowTeacher(Plain):
    """Takes its time."""

    def predict(self, image: Tensor) -> Tensor:
        time.sleep(LONG)
        return super().predict(image)


class SlowStudent(Plain):
    """Takes its time."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            time.sleep(LONG)
        return super().forward(x)


def config(binds: Any = None, **sections: Any) -> dict[str, Any]:
    student = dict(type=Plain, num_classes=11)
    model: dict[str, Any] = dict(type=Segmentor, network=student, supervision=SUPERVISION)
    if binds:
        teacher = dict(type=Plain, num_classes=11)
        model = dict(type=Distiller, student=student, teacher=teacher, binds=binds, supervision=SUPERVISION)
    return dict(
        model=model,
        data=dict(
            dataset=dict(type=SyntheticStreets, size=(32, 64), cache=True), train=dict(length=4),
            val=dict(split="val", length=1), augment=dict(type=TrainTransform, crop_size=(32, 64)), batch_size=2,
        ),
        schedule=dict(steps=1000, val_interval=100),
        optim=dict(optimizer=dict(type=torch.optim.Adam, lr=1e-4)),
        engine=dict(threads=2),
    ) | sections  # fmt: skip


def ms(found: StepTimes) -> dict[str, float]:
    return {row["name"]: row["ms"] for row in found.rows}


def test_the_parts_are_named_and_make_the_whole() -> None:
    SlowHook.began.clear()
    found = time_step(config(KD, hooks=[dict(type=SlowHook)]), REPEATS, untrained=True)
    parts = ms(found)
    assert list(parts) == [
        "data", "student forward", "teacher forward", "loss_main", "loss_aux", "loss_bind_kd", "backward", "optimiser",
        "hooks", "log and checks", "gradient norms", "rest of the loop",
    ]  # fmt: skip
    assert all(value > 0 for value in parts.values())
    assert sum(parts.values()) == pytest.approx(found.step_ms)
    assert sum(row["share"] for row in found.rows) == pytest.approx(1)
    first, last = SlowHook.began[WARM_UP], SlowHook.began[WARM_UP + REPEATS]
    seen = 1e3 * (last - first) / REPEATS  # by a clock that knows nothing of parts
    rare = parts["log and checks"] + parts["gradient norms"]
    assert found.step_ms - rare == pytest.approx(seen, rel=0.2)
    assert len(SlowHook.began) == WARM_UP + REPEATS + RARE + REPEATS


def test_what_is_slow_is_found_in_its_part() -> None:
    cfg = config(dict(kd=dict(LOGITS, loss=dict(type=SlowKD))), hooks=[dict(type=SlowHook)])
    cfg["data"]["dataset"] |= dict(type=SlowStreets)
    cfg["model"]["supervision"] = dict(main=dict(loss=dict(type=SlowEntropy)))
    cfg["model"]["student"] |= dict(type=SlowStudent)
    cfg["model"]["teacher"] |= dict(type=SlowTeacher)
    cfg["optim"] = dict(optimizer=dict(type=SlowAdam, lr=1e-4))
    cfg["engine"] |= dict(log_interval=1, ema=0.9)
    found = time_step(cfg, REPEATS, untrained=True)
    parts = ms(found)
    fast = {"moving average", "log and checks", "gradient norms", "rest of the loop"}
    slow = {name: value for name, value in parts.items() if name not in fast}
    assert len(slow) == 8
    for name, value in slow.items():
        assert value >= 1e3 * LONG, name
    assert 0 < max(parts[name] for name in fast) < 1e3 * LONG
    assert found.images_per_second < 1e3 * 2 / found.loop_ms


def test_the_ratio_holds_against_the_loop_what_no_bare_one_does() -> None:
    SlowHook.seconds = 2 * LONG
    try:
        cfg = config(hooks=[dict(type=SlowHook)], optim=dict(optimizer=dict(type=SlowAdam, lr=1e-4), accumulate=2))
        found = time_step(cfg, 2)
    finally:
        SlowHook.seconds = LONG
    assert found.loop_ms - found.bare_ms > 1e3 * LONG
    assert found.ratio > 1.2
    assert found.ratio_with_data > found.ratio
    assert found.ratio_iqr >= 0
    assert 1e3 * LONG > ms(found)["optimiser"] > 500 * LONG  # it steps with every other batch
    assert found.about["accumulate"] == 2


def test_a_critic_has_its_share() -> None:
    found = time_step(config(SKD), 2, untrained=True)
    parts = ms(found)
    assert parts["critic"] > 0
    assert list(parts)[5:10] == ["loss_bind_pair", "loss_bind_holistic", "backward", "optimiser", "critic"]


@pytest.mark.parametrize("binds", [None, KD, SKD])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_bare_loop_does_the_same_work(binds: Any, accumulate: int, tmp_path: Path) -> None:
    """One optimiser step of either gives the same weights."""
    cfg = config(binds)
    sgd = dict(type=torch.optim.SGD, lr=0.1)  # Adam would make much of a last digit
    cfg["optim"] = dict(optimizer=sgd, accumulate=accumulate, clip_grad=dict(max_norm=0.1))
    cfg["optim"] |= dict(critic=sgd) if binds is SKD else {}
    if binds:
        cfg["model"]["untrained_teacher"] = True
    ours, bare = (Training(cfg, tmp_path / name, False, (), None) for name in ("loop", "bare"))
    for training in (ours, bare):
        training.make_ready()
        training.model.train()
        for module in training.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    batches = [batch for batch, _ in zip(ours.loaders["train"], range(accumulate), strict=False)]
    before = {name: value.clone() for name, value in ours.model.state_dict().items()}
    for batch in batches:
        take_step(stretch(ours), batch)
    ours.model.after_step()
    BareLoop(bare).step(batches)
    changed = set()
    for name, value in bare.model.state_dict().items():
        torch.testing.assert_close(value, ours.model.state_dict()[name], rtol=1e-4, atol=1e-6)
        changed |= set() if torch.equal(value, before[name]) else {name}
    assert changed >= {"student.body.0.weight", "student.classifier.weight", "supervision.heads.aux.classifier.weight"}
    assert any("critic" in name for name in changed) is (binds is SKD)


def stretch(training: Training) -> Stretch:
    return Stretch(
        training.model, lambda batch: training.model(**batch), training.minimizers, Precision("fp32", "cpu"), (), 0, 0,
        lambda *_: None, lambda *_: None,
    )  # fmt: skip


def test_a_step_is_timed_that_would_diverge() -> None:
    cfg = config(optim=dict(optimizer=dict(type=torch.optim.SGD, lr=1e9)))
    assert time_step(cfg, 2).ratio > 0


def test_nothing_stays_patched_and_threads_are_as_before() -> None:
    before = (torch.Tensor.backward, steps.on_device, segmentor.gradient_norms, torch.get_num_threads())
    time_step(config(engine=dict(threads=1)), 2, random_images=True)
    assert (torch.Tensor.backward, steps.on_device, segmentor.gradient_norms, torch.get_num_threads()) == before


def test_what_is_missing_is_refused_unless_it_is_waived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config(KD)
    with pytest.raises(UserError, match="the teacher has no weights"):
        time_step(cfg, 2)
    cfg = config()
    cfg["data"]["dataset"] = dict(type="camvid", root=str(tmp_path))
    cfg["data"] |= dict(train=dict(split="train"), val=dict(split="val"))
    with pytest.raises(UserError, match="CamVid"):
        time_step(cfg, 2)
    found = time_step(cfg, 2, random_images=True)
    assert found.about["random_images"]
    assert not found.about["untrained"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        time_step(cfg, 2)
