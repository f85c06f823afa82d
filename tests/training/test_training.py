"""Runs: fair arms, resuming bit for bit, run files, overrides, precision."""

from __future__ import annotations

import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from segkd import models
from segkd.datasets.synthetic import SyntheticStreets
from segkd.datasets.transforms import TrainTransform
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.losses import DistillationLoss
from segkd.losses.cwd import ChannelWise
from segkd.losses.skd_pair import PairWise
from segkd.models import load_weights
from segkd.models.fast_scnn import FastSCNN
from segkd.segmentor import GradientNorms, Segmentor, gradient_norms, layers_run
from segkd.supervision import AuxHead
from segkd.taps import tap
from segkd.training.build import build_model, build_student
from segkd.training.configfile import dump_config, load_config, override, textual
from segkd.training.log import Means
from segkd.training.loop import train
from segkd.training.state import BEST, LAST, STATE
from segkd.training.watch import GradientWatch, TermWarning

SUPERVISION = dict(main={}, aux=dict(tap="learning_to_downsample", head=dict(type=AuxHead), weight=0.4))
BIND = dict(student="classifier", teacher="classifier", loss=dict(type=ChannelWise), weight=3.0)
DEEP = dict(student="fusion", teacher="fusion", connector=dict(type="conv1x1"), loss=dict(type=ChannelWise))


def config(arm: str = "alone", **changes: Any) -> dict[str, Any]:
    student = dict(type=FastSCNN, num_classes=11)
    model: dict[str, Any] = dict(type=Segmentor, network=student, supervision=SUPERVISION)
    if arm == "distilled":
        model = dict(
            type=Distiller, student=student, supervision=SUPERVISION, teacher=dict(type=FastSCNN, num_classes=11),
            binds=dict(logits=BIND, deep=DEEP), untrained_teacher=True,
        )  # fmt: skip
    return dict(
        model=model,
        data=dict(
            dataset=dict(type=SyntheticStreets, size=(48, 64), cache=True),
            train=dict(length=12), val=dict(split="val", length=3), test=dict(split="test", length=3),
            augment=dict(type=TrainTransform, crop_size=(48, 64)), batch_size=4, workers=0,
        ),
        schedule=dict(steps=4, val_interval=2, warmup=1) | changes.pop("schedule", {}),
        optim=dict(optimizer=dict(type=torch.optim.AdamW, lr=1e-3)),
        engine=dict(log_interval=1) | changes.pop("engine", {}),
        seed=changes.pop("seed", 3),
    )  # fmt: skip


class Watch:
    """Keeps the batches and the student's weights of each step, and may stop a run as a crash would."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.batches: list[dict[str, torch.Tensor]] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.crash_at = crash_at

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.crash_at:
            raise KeyboardInterrupt
        self.batches.append({k: v.clone() for k, v in data_batch.items()})
        self.weights.append({k: v.clone() for k, v in runner.model.student.state_dict().items()})


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_arms_start_bit_equal_and_see_the_same_batches(tmp_path: Path) -> None:
    watches = {}
    for arm in ("alone", "distilled"):
        watches[arm] = Watch()
        train(config(arm), tmp_path / arm, hooks=[watches[arm]])
    alone, distilled = watches["alone"], watches["distilled"]
    assert equal(alone.weights[0], distilled.weights[0])
    assert not equal(alone.weights[1], distilled.weights[1])
    assert len(alone.batches) == len(distilled.batches) == 4
    assert all(equal(a, b) for a, b in zip(alone.batches, distilled.batches, strict=True))


@pytest.mark.parametrize("arm", ["alone", "distilled"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, arm: str) -> None:
    """Weights, BatchNorm statistics, optimiser, schedule, data order and dropout: bit for bit."""
    whole = Watch()
    train(config(arm), tmp_path / "whole", hooks=[whole])
    with pytest.raises(KeyboardInterrupt):
        train(config(arm), tmp_path / "parts", hooks=[Watch(crash_at=3)])
    second = Watch()
    train(config(arm), tmp_path / "parts", resume=True, hooks=[second])
    assert len(second.batches) == 2  # the state was of step 2
    assert equal(second.weights[0], whole.weights[2])
    a, b = (torch.load(tmp_path / run / STATE, weights_only=True) for run in ("whole", "parts"))
    assert equal(a["model"], b["model"])
    assert a["step"] == b["step"] == 4
    assert equal(*(torch.load(tmp_path / run / LAST, weights_only=True) for run in ("whole", "parts")))


def test_run_folder_holds_what_the_design_says(tmp_path: Path) -> None:
    run = tmp_path / "run"
    metrics = train(config("distilled"), run)
    for name in ("config.py", "log.jsonl", "metrics.json", STATE, LAST, BEST):
        assert (run / name).is_file(), name
    assert not list(run.glob("*.tmp"))
    stored = json.loads((run / "metrics.json").read_text())
    assert stored["seed"] == 3
    assert stored["versions"]["torch"] == torch.__version__.partition("+")[0] or stored["versions"]["torch"]
    assert stored["hardware"]
    assert metrics["val_best"]["mIoU"] == max(r["val"]["mIoU"] for r in _log(run) if "val" in r)
    steps = [r for r in _log(run) if "loss" in r]
    assert [r["step"] for r in steps] == [1, 2, 3, 4]
    terms = {k for k in steps[0] if k.startswith("loss_")}
    assert terms == {"loss_main", "loss_aux", "loss_bind_logits", "loss_bind_deep"}
    assert steps[0]["loss"] == pytest.approx(sum(steps[0][k] for k in terms), rel=1e-4)


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_student_file_is_the_student_alone_and_loads(tmp_path: Path) -> None:
    cfg = config("distilled", schedule=dict(steps=2))
    train(cfg, tmp_path / "run")
    tensors = torch.load(tmp_path / "run" / LAST, weights_only=True)
    network = build_student(cfg)
    assert tensors.keys() == network.state_dict().keys()
    load_weights(network, tmp_path / "run" / LAST)
    assert equal(network.state_dict(), tensors)


def test_learning_rate_warms_up_and_decays_to_the_end(tmp_path: Path) -> None:
    train(config(schedule=dict(steps=8, warmup=3, val_interval=8)), tmp_path / "run")
    rates = [r["lr"] for r in _log(tmp_path / "run") if "lr" in r]
    warm = [1e-3 * (0.01 + 0.99 * i / 2) for i in range(3)]
    decay = [1e-3 * (1 - i / 5) ** 0.9 for i in range(5)]
    assert rates == pytest.approx(warm + decay, rel=1e-6, abs=1e-9)


def test_bf16_and_channels_last_train_on_a_cpu(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(config("distilled", engine=dict(precision="bf16", channels_last=True), schedule=dict(steps=2)), run)
    assert all(torch.isfinite(torch.tensor(r["loss"])) for r in _log(run) if "loss" in r)
    tensors = torch.load(run / LAST, weights_only=True)
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float32}
    with pytest.raises(UserError, match="precision 'fp8'"):
        train(config(engine=dict(precision="fp8")), tmp_path / "other")


def test_autocast_is_on_in_bf16_only(tmp_path: Path) -> None:
    seen: dict[str, list[torch.dtype]] = {}
    for precision in ("fp32", "bf16"):
        cfg = config(engine=dict(precision=precision), schedule=dict(steps=1))
        model = build_model(cfg)
        types = seen.setdefault(precision, [])
        model.student.classifier.register_forward_hook(lambda m, a, y, types=types: types.append(y.dtype))
        train(cfg, tmp_path / precision, model=model)
    assert seen["fp32"][0] is torch.float32
    assert seen["bf16"][0] is torch.bfloat16
    assert seen["bf16"][-1] is torch.float32  # validation is in full precision


def test_gradients_accumulate_over_steps(tmp_path: Path) -> None:
    cfg = config(schedule=dict(steps=4, warmup=0, val_interval=4))
    cfg["optim"] = dict(optimizer=dict(type=torch.optim.SGD, lr=0.1), accumulate=2)
    watch = Watch()
    train(cfg, tmp_path / "run", hooks=[watch])
    names = [n for n, _ in build_student(cfg).named_parameters()]
    assert all(torch.equal(watch.weights[0][n], watch.weights[1][n]) for n in names)
    assert not all(torch.equal(watch.weights[1][n], watch.weights[2][n]) for n in names)
    assert all(torch.equal(watch.weights[2][n], watch.weights[3][n]) for n in names)


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(tmp_path: Path) -> None:
    cfg = config(schedule=dict(steps=25, val_interval=25))
    cfg["model"] = dict(cfg["model"], supervision=dict(SUPERVISION, main=dict(weight=3e38)))
    with pytest.raises(UserError, match="not finite: loss_main"):
        train(cfg, tmp_path / "run")


def test_nothing_is_kept_of_a_run_that_is_not_finite(tmp_path: Path) -> None:
    """Also between two looks: in its last steps, and before a validation."""
    cfg = config(schedule=dict(steps=5, val_interval=3, warmup=0))
    cfg["optim"] = dict(optimizer=dict(type=torch.optim.SGD, lr=1e30))
    with pytest.raises(UserError, match="up to step 3: not finite: loss_"):
        train(cfg, tmp_path / "val")
    with pytest.raises(UserError, match="up to step 5: not finite: loss_"):
        train(cfg | dict(schedule=dict(steps=5, warmup=0)), tmp_path / "end")
    assert not list(tmp_path.glob("*/*.pth"))


def test_the_log_has_the_means_of_its_steps(tmp_path: Path) -> None:
    """A validation between two lines takes no step away, nor is the rest of a run lost."""
    schedule = dict(steps=10, val_interval=6)
    train(config("distilled", schedule=schedule), tmp_path / "each")
    train(config("distilled", schedule=schedule, engine=dict(log_interval=4)), tmp_path / "fourth")
    each = [r for r in _log(tmp_path / "each") if "loss" in r]
    lines = [r for r in _log(tmp_path / "fourth") if "loss" in r]
    assert [r["step"] for r in lines] == [4, 8, 10]
    for line, first in zip(lines, (0, 4, 8), strict=True):
        steps = each[first : line["step"]]
        for name in ("loss", "loss_main", "loss_bind_deep"):
            assert line[name] == pytest.approx(sum(r[name] for r in steps) / len(steps), rel=1e-5)


def test_a_term_of_some_steps_is_averaged_over_these() -> None:
    """As a critic's, whose bind stops between two lines."""
    means = Means()
    for step in range(4):
        means.add({"loss": torch.tensor(float(step))} | ({"critic": torch.tensor(6.0 + step)} if step < 2 else {}))
    line = means.take()
    assert (line["loss"], line["critic"]) == (1.5, 6.5)
    assert means.take().keys() == {"seconds_per_step"}


def test_mistakes_leave_nothing_behind(tmp_path: Path) -> None:
    wrong = config()
    wrong["model"] = dict(wrong["model"], network=dict(type=FastSCNN, num_classes=7))
    with pytest.raises(UserError, match=r"num_classes=7.*SyntheticStreets has 11"):
        train(wrong, tmp_path / "run")
    with pytest.raises(UserError, match="nothing to resume"):
        train(config(), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()
    train(config(schedule=dict(steps=1)), tmp_path / "run")
    with pytest.raises(UserError, match="already holds a run"):
        train(config(), tmp_path / "run")
    with pytest.raises(UserError, match="seed 3, not 4"):
        train(config(seed=4), tmp_path / "run", resume=True)


def test_a_pair_of_two_kinds_can_be_overridden() -> None:
    cfg = config("distilled")
    cfg["model"]["binds"] = dict(logits=BIND | dict(loss=dict(type=PairWise, pool=("scale", 0.5))))
    override(cfg, 'model.binds.logits.loss.pool=("kernel", 2)')
    assert cfg["model"]["binds"]["logits"]["loss"]["pool"] == ("kernel", 2)
    with pytest.raises(UserError, match="no value of that kind"):
        override(cfg, "model.binds.logits.loss.pool=(2, 2)")


def test_overrides_reach_any_value_and_refuse_unknown_names() -> None:
    cfg = config("distilled")
    override(cfg, "schedule.steps=7")
    override(cfg, "model.binds.logits.weight=0.5")
    override(cfg, "model.binds.logits.loss.temperature=2")
    override(cfg, "model.network.dropout=0.2")  # what the student is called without a teacher
    assert cfg["model"]["student"]["dropout"] == 0.2
    override(cfg, "model.student.dropout=0.3")  # an argument that the config did not set
    override(cfg, "data.augment.crop_size=(64, 96)")
    override(cfg, "engine.channels_last=true")
    override(cfg, "data.train.split=a=b")
    assert cfg["schedule"]["steps"] == 7
    assert cfg["model"]["binds"]["logits"]["loss"] == dict(type=ChannelWise, temperature=2)
    assert cfg["data"]["augment"]["crop_size"] == (64, 96)
    assert cfg["engine"]["channels_last"] is True
    assert cfg["data"]["train"]["split"] == "a=b"
    for text, message in (
        ("schedule.stepz=1", "steps"),
        ("shedule.steps=1", "schedule"),
        ("model.student.drop=1", "dropout"),
        ("model.binds.logitz.weight=1", "logits"),
        ("steps", "key.sub=value"),
    ):
        with pytest.raises(UserError, match=message):
            override(cfg, text)


def test_a_dumped_config_reads_back_to_the_same_values(tmp_path: Path) -> None:
    cfg = config("distilled")
    dump_config(cfg, tmp_path / "config.py")
    assert textual(load_config(str(tmp_path / "config.py"))) == textual(cfg)


class Counting(DistillationLoss):
    """Mean square error with an own factor, a parameter that is not decayed; counts optimiser steps."""

    no_weight_decay = ("factor",)

    def __init__(self, deaf: bool = False) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.deaf = deaf

    def after_step(self) -> None:
        self.steps += 1

    def forward(self, student: Any, teacher: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        student = student.detach() if self.deaf else student
        return self.factor * (student - teacher).square().mean()


def counting(tmp_path: Path, steps: int = 4, optim: dict[str, Any] | None = None, **bind: Any) -> dict[str, Any]:
    """Train with a bind of that loss; returns the saved state."""
    cfg = config(
        "distilled", schedule=dict(steps=steps, warmup=0, val_interval=steps), engine=dict(gradient_interval=1)
    )
    deaf = bind.pop("deaf", False)
    cfg["model"]["binds"] = dict(
        own=dict(student="fusion", teacher="fusion", loss=dict(type=Counting, deaf=deaf), **bind)
    )
    cfg["optim"].update(optim or {})
    train(cfg, tmp_path / "run")
    saved: dict[str, Any] = torch.load(tmp_path / "run" / STATE, weights_only=True)
    return saved


def test_after_step_is_called_once_per_optimiser_step(tmp_path: Path) -> None:
    saved = counting(tmp_path, optim=dict(accumulate=2))
    assert int(saved["model"]["binds.own.loss.steps"]) == 2


def test_factors_of_learning_rate_and_weight_decay_reach_the_optimiser(tmp_path: Path) -> None:
    sgd = dict(type=torch.optim.SGD, lr=0.1, weight_decay=0.5)
    saved = counting(
        tmp_path, steps=1, optim=dict(optimizer=sgd), lr_factor=10.0, connector=dict(type="conv1x1"), weight=1e-3
    )
    groups = saved["optimizers"]["student"]["param_groups"]
    rates = {(round(g["initial_lr"], 6), g["weight_decay"]) for g in groups}
    assert rates == {(0.1, 0.5), (1.0, 0.5), (1.0, 0.0)}
    assert sum(g["weight_decay"] == 0 for g in groups) == 1  # the factor alone


def records(tmp_path: Path, key: str) -> list[dict[str, Any]]:
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if key in json.loads(line)]


def test_gradient_norms_are_logged_for_each_term(tmp_path: Path) -> None:
    counting(tmp_path, weight=0.5)
    logged = records(tmp_path, "gradients")
    assert [record["step"] for record in logged] == [1, 2, 3, 4]
    assert set(logged[0]["gradients"]) == {"loss_main", "loss_aux", "loss_bind_own"}
    assert min(logged[0]["gradients"].values()) > 0
    assert {record["shared_layer"] for record in logged} == {"learning_to_downsample.2.1.0"}  # as far as aux goes down
    assert set(logged[0]["shared_gradients"]) == set(logged[0]["gradients"])
    assert all(0 < value < logged[0]["gradients"][name] for name, value in logged[0]["shared_gradients"].items())


def test_gradient_norms_are_those_of_the_weighted_terms_in_all_and_at_the_shared_layer() -> None:
    model = build_model(config("distilled"))
    batch = dict(
        image=torch.randint(0, 256, (2, 3, 48, 64), dtype=torch.uint8), label=torch.randint(0, 11, (2, 48, 64))
    )
    model.watch_gradients = True
    model.eval()
    model(**batch)
    norms = model.gradient_norms
    shared = model.student.get_submodule(norms.layer)
    for name in ("loss_main", "loss_aux", "loss_bind_deep"):
        model.zero_grad()
        model.losses(batch["image"], batch["label"], 0)[name].backward()
        for found, parts in ((norms.network, model.student), (norms.shared, shared)):
            grads = torch.cat([p.grad.double().flatten() for p in parts.parameters() if p.grad is not None])
            assert found[name] == pytest.approx(float(grads.norm()), rel=1e-5)
        if name == "loss_bind_deep":
            assert all(p.grad is None for p in model.student.classifier.parameters())  # not reached from the tap


@pytest.mark.parametrize(
    ("name", "path"),
    [("bisenetv1", "spatial"), ("bisenetv2", "detail"), ("contextnet", "context"), ("icnet", "detail")],
)
def test_a_term_on_a_branch_of_its_own_is_not_silent(name: str, path: str) -> None:
    network = models.create(name, num_classes=11)
    with tap(network, [path]) as features, layers_run(network) as ran:
        logits = network.predict(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    branch = features[path].square().mean()
    norms = gradient_norms({"logits": logits.square().mean(), "branch": branch, "deaf": branch.detach()}, network, ran)
    assert min(norms.network["branch"], norms.shared["branch"]) > 0
    assert norms.layer is not None
    assert norms.layer.startswith(path)
    assert norms.shared["deaf"] == norms.network["deaf"] == 0  # and does not stand in the way of a shared layer


def test_branches_that_meet_in_the_loss_alone_share_no_layer() -> None:
    network = models.create("bisenetv2", num_classes=11)
    with tap(network, ["detail", "semantic"]) as features, layers_run(network) as ran:
        network.predict(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    norms = gradient_norms({name: feature.square().mean() for name, feature in features.items()}, network, ran)
    assert min(norms.network.values()) > 0
    assert (norms.layer, norms.shared) == (None, {})


@pytest.mark.parametrize(("path", "layer"), [("up8", "up8.blend.2"), ("up16", "up16.blend.2")])
def test_the_shared_layer_is_the_last_to_run(path: str, layer: str) -> None:
    network = models.create("swiftnet_rn18", num_classes=11)  # registers its up-sampling from the last to the first
    with tap(network, [path]) as features, layers_run(network) as ran:
        logits = network.predict(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    terms = {"logits": logits.square().mean(), "feature": features[path].square().mean()}
    assert gradient_norms(terms, network, ran).layer == layer


def test_gradient_norms_of_frozen_parts_are_left_out() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
    network[0].requires_grad_(False)
    with layers_run(network) as ran:
        value = network(torch.ones(1, 3)).sum()
    terms = {"reaches": 2 * value, "constant": value.detach(), "elsewhere": torch.ones(1, requires_grad=True).sum()}
    norms = gradient_norms(terms, network, ran)
    hidden = network[0](torch.ones(1, 3))
    assert norms.network["reaches"] == pytest.approx(2 * float((hidden.square().sum() + 1).sqrt()), rel=1e-6)
    assert norms.network == {"reaches": norms.network["reaches"], "constant": 0, "elsewhere": 0}
    assert (norms.layer, norms.shared) == ("1", norms.network)
    frozen = gradient_norms(terms, network.requires_grad_(False), ran)
    assert frozen == (dict.fromkeys(terms, 0.0), None, {})


def test_silent_and_loud_terms_are_warned_about(tmp_path: Path) -> None:
    with pytest.warns(TermWarning, match="loss_bind_own gives the student no gradient"):
        counting(tmp_path, deaf=True)
    with pytest.warns(TermWarning, match="step 1: the term loss_bind_own has .* times the gradient"):
        counting(tmp_path / "loud", weight=1e6)
    for run, text in ((tmp_path, "teaches nothing"), (tmp_path / "loud", "lower its weight")):
        assert [text in record["warning"] for record in records(run, "warning")] == [True]


@pytest.mark.parametrize(
    ("layer", "shared", "loud"),
    [("fusion", 1000.0, True), ("fusion", 10.0, False), (None, None, True)],
)
def test_loud_goes_by_the_shared_layer_where_there_is_one(
    layer: str | None, shared: float | None, loud: bool, recwarn: pytest.WarningsRecorder
) -> None:
    model = build_model(config("distilled"))
    model.watch_gradients = True
    at_layer = {} if shared is None else {"loss_main": 1.0, "loss_bind_deep": shared}
    model.gradient_norms = GradientNorms({"loss_main": 1.0, "loss_bind_deep": 500.0}, layer, at_layer)
    written: list[Any] = []
    values = {name: torch.ones(()) for name in model.gradient_norms.network}
    GradientWatch(written.append, interval=1).after(model, 0, values)
    assert any("times the gradient" in str(found.message) for found in recwarn) == loud
    assert [record.keys() & {"shared_layer", "warning"} for record in written] == [{"shared_layer"}, {"warning"}][
        : 1 + loud
    ]


def watched(binds: dict[str, Any], steps: int = 3, aux: float = 0.4, about: str = "the term") -> list[str]:
    """What a run that watches the gradients at each step warns of."""
    cfg = config("distilled", schedule=dict(steps=steps, val_interval=steps), engine=dict(gradient_interval=1))
    cfg["model"] |= dict(binds=binds, supervision=dict(SUPERVISION, aux=dict(SUPERVISION["aux"], weight=aux)))
    cfg["data"]["batch_size"] = 2
    with warnings.catch_warnings(record=True) as caught, tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("always")
        train(cfg, Path(folder) / "run")
    return [str(warning.message) for warning in caught if about in str(warning.message)]


RKD = dict(student="fusion", teacher="fusion", loss=dict(type="rkd", samples="batch"))  # 2 samples: value always 0


def test_a_term_that_is_always_zero_is_silent_and_supervision_is_not_loud_for_it() -> None:
    said = watched(dict(own=RKD), aux=1e-9)
    assert said == ["step 2: the term loss_bind_own gives the student no gradient: it teaches nothing"]


def test_features_off_the_scale_that_a_loss_presumes_are_warned_about() -> None:
    hint = dict(student="fusion", teacher="fusion", loss=dict(type="fitnet"), teacher_scale=1e-3)
    (said,) = watched(dict(own=hint))
    assert re.fullmatch(
        r"step 1: the term loss_bind_own is off its scale: the teacher's features have an rms of 0\.0\d+, "
        r"which makes FitNet faint: set teacher_scale=0\.0\d+ in this bind for an rms of 1 \(or 1, if .*\)",
        said,
    )
    first = dict(steps=2, optimizer=dict(type="SGD", lr=1e-3))
    (said,) = watched(dict(own=hint | dict(weight=0.0, first_stage=first)), about="the teacher's features")
    assert said.startswith("first stage of own: the teacher's features have an rms of 0.0")
    assert watched(dict(own=hint | dict(teacher_scale=0.05))) == []  # an untrained teacher is loud


def test_a_term_of_nothing_but_rounding_is_silent() -> None:
    one_node = dict(student="fusion", teacher="fusion", loss=dict(type=PairWise, pool=("kernel", 500)))
    assert any("loss_bind_own gives the student no gradient" in text for text in watched(dict(own=one_node)))


def test_a_term_of_zero_is_judged_the_second_time_and_while_it_is_on() -> None:
    assert watched(dict(own=RKD), steps=1) == []
    assert watched(dict(own=dict(RKD, schedule=dict(stop=1)))) == []
    assert watched(dict(own=dict(RKD, weight=0.0))) == []


def test_supervision_that_drowns_a_bind_is_loud() -> None:
    faint = dict(DEEP, weight=1e-9)
    assert any("times the gradient of all other terms" in text for text in watched(dict(own=faint, none=RKD)))
