"""What makes steps faster gives the right values: lower precision, of the teacher alone too, layout, torch.compile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sampling import sampled
from test_training import config
from torch import nn

from segkd import models
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.taps import CompiledForward, tap
from segkd.training.build import build_model
from segkd.training.loop import Training, train
from segkd.training.precision import set_teacher_precision, to_channels_last
from segkd.training.state import LAST


def leave_rubbish() -> None:
    """Fill freed memory with NaN, so that whoever reads what it has not written reads that."""
    for size in (64, 1152, 4608, 2**13, 2**15, 2**17, 2**19, 2**20):
        blocks = [torch.full((size,), float("nan")) for _ in range(3)]
        del blocks


@pytest.mark.parametrize("dilation", [*(pytest.param(rate, marks=pytest.mark.slow) for rate in (1, 4)), 12])
def test_depthwise_gradients_in_bf16_equal_float64(dilation: int) -> None:
    """torch 2.15's oneDNN gets dilated ones wrong in channels_last: 3 in 30 at dilation 4, 28 in 30 at 12."""
    for seed in range(30):
        torch.manual_seed(seed)
        conv = nn.Conv2d(128, 128, 3, padding=dilation, dilation=dilation, groups=128, bias=False)
        x = torch.randn(4, 128, 44, 60)
        exact = conv.weight.detach().double().requires_grad_()
        wanted = nn.functional.conv2d(x.double(), exact, None, 1, dilation, dilation, 128)
        gradient = torch.randn_like(wanted)
        wanted.backward(gradient)

        to_channels_last(conv)
        with torch.autocast("cpu", torch.bfloat16):
            got = conv(x.to(memory_format=torch.channels_last))
        leave_rubbish()
        got.backward(gradient.to(got.dtype).to(memory_format=torch.channels_last))
        assert conv.weight.grad is not None
        assert exact.grad is not None
        error = (conv.weight.grad.double() - exact.grad).norm() / exact.grad.norm()
        assert error < 0.01, f"seed {seed}: relative error {error}"  # bf16 rounds at 2^-9; NaN fails too


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


@pytest.mark.parametrize(
    "options", sampled([dict(precision="bf16"), dict(precision="fp16"), dict(teacher_precision="bf16")], 2)
)
def test_a_lower_precision_trains_nearly_as_fp32(options: dict[str, str], tmp_path: Path) -> None:
    train(config("distilled"), tmp_path / "fp32")
    train(config("distilled", engine=options), tmp_path / "lower")
    assert losses(tmp_path / "lower") == pytest.approx(losses(tmp_path / "fp32"), rel=0.02)
    assert losses(tmp_path / "lower") != losses(tmp_path / "fp32")


def test_fp16_leaves_out_a_step_of_too_large_gradients_and_lowers_its_scale(tmp_path: Path) -> None:
    """At 2**60, every gradient is infinite: the weights stay, and the scale is halved."""

    class Huge:
        def before_run(self, training: Training) -> None:
            training.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
            self.before = [parameter.detach().clone() for parameter in training.model.student.parameters()]

        def after_train_iter(self, training: Training, **_: Any) -> None:
            now = training.model.student.parameters()
            self.stayed = all(torch.equal(a, b) for a, b in zip(self.before, now, strict=True))
            self.scale = training.precision.scaler.get_scale()

    hook = Huge()
    train(
        config(schedule=dict(steps=1, val_interval=1, warmup=0), engine=dict(precision="fp16")), tmp_path, hooks=[hook]
    )
    assert hook.stayed
    assert hook.scale == 2.0**59


def test_the_teacher_alone_computes_in_its_precision() -> None:
    """Its features are bf16, the student's stay fp32; without the option, it follows the student."""
    torch.manual_seed(0)
    model = build_model(config("distilled"))
    assert isinstance(model, Distiller)
    image = torch.randint(0, 256, (2, 3, 48, 64), dtype=torch.uint8)

    def types() -> set[torch.dtype]:
        return {value.dtype for features in model.teach(image).values() for value in features.values()}

    assert types() == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        assert types() == {torch.bfloat16}
        set_teacher_precision(model, "fp32")
        assert types() == {torch.float32}
    set_teacher_precision(model, "bf16")
    assert types() == {torch.bfloat16}
    with pytest.raises(UserError, match=r"engine\.teacher_precision is given, but the config has no teacher"):
        set_teacher_precision(build_model(config()), "bf16")


def test_a_precision_that_there_is_not_is_refused(tmp_path: Path) -> None:
    for key in ("precision", "teacher_precision"):
        with pytest.raises(UserError, match=rf"engine\.{key} 'fp8' is not one of auto, fp32, bf16, fp16"):
            train(config("distilled", engine={key: "fp8"}), tmp_path / "run")


@pytest.mark.parametrize(("there", "found"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_the_device_is_fast_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool, found: str
) -> None:
    """What was chosen is in metrics.json."""
    monkeypatch.setattr("segkd.training.precision.has_bf16", lambda device: there)
    short = dict(steps=2, val_interval=2, warmup=0)
    metrics = train(config(engine=dict(precision="auto"), schedule=short), tmp_path / "auto")
    train(config(engine=dict(precision=found), schedule=short), tmp_path / "named")
    assert metrics["precision"] == found
    assert losses(tmp_path / "auto") == losses(tmp_path / "named")


@pytest.fixture
def uncompiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs as torch.compile captures them, without the minute in which C++ is made of them."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, dynamic, options: real(f, dynamic=dynamic, backend="aot_eager"))


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled_kernels")
def test_compiled_networks_train_as_they_are(tmp_path: Path) -> None:
    """Taps, dropout, validation between the steps and all; the gradient watch and first validation run in between."""
    engine = dict(gradient_interval=2)
    torch._dynamo.utils.counters.clear()
    train(config("distilled", engine=engine), tmp_path / "plain")
    assert not torch._dynamo.utils.counters["stats"]
    train(config("distilled", engine=engine | dict(compile=True)), tmp_path / "compiled")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # the student's and the teacher's
    assert not torch._dynamo.utils.counters["graph_break"]
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
    a, b = (torch.load(tmp_path / name / LAST, weights_only=True) for name in ("plain", "compiled"))
    assert list(a) == list(b)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled_kernels_draw_what_others_draw(tmp_path: Path) -> None:
    """Through the C++ compiler: dropout takes torch's own random numbers."""
    train(config("distilled"), tmp_path / "plain")
    train(config("distilled", engine=dict(compile=True)), tmp_path / "compiled")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)


@pytest.mark.usefixtures("uncompiled_kernels")
@pytest.mark.parametrize(
    "name", sampled(["encoder.layer1.0.relu@input#-1", "encoder.layer2.0.relu#0", "decoder", ""], 4)
)
def test_any_tap_is_read_from_a_compiled_network(name: str) -> None:
    network = models.create("smp", arch="Unet", encoder="resnet18", num_classes=3).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    compiled = CompiledForward(network, network.predict, [name])
    for _ in range(2):
        logits, features = compiled(image)
        with tap(network, [name]) as expected:
            torch.testing.assert_close(logits, network.predict(image))
        torch.testing.assert_close(features[name], expected[name])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
