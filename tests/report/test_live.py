"""What a person sees while a training runs, without a training: a hook's calls, in consoles of every kind."""

from __future__ import annotations

import io
import re
import sys
import types
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest
from rich.console import Console

from segkd.report import screens
from segkd.report.live import Live, Pace, short
from segkd.report.screens import wrap


class Parameters:
    def __init__(self, count: int) -> None:
        self.count = count

    def parameters(self) -> list[Any]:
        return [Some(numel=lambda: self.count)]


class FastSCNN(Parameters):
    pass


class ESPNet(Parameters):
    pass


def training(steps: int = 100, **changes: Any) -> Any:
    """What a training shows of itself to its hooks."""
    model = Some(
        student=FastSCNN(1_140_000), teachers={"teacher": ESPNet(350_000)},
        supervision=Some(weights={"main": 1.0, "aux_context": 0.4}), terms=lambda: {"logits": Some(weight=3.0)},
    )  # fmt: skip
    val = Some(dataset=range(101))
    made = dict(
        cfg=Some(data=Some(batch_size=8, unlabelled=None), engine=Some(precision="bf16")), model=model,
        rank=0, world_size=1,
        data=Data(), notes=["a note"], loaders={"val": val}, val_dataloader=range(4),
        folder=Path("work/students/camvid/fast_scnn"),
        device=Some(type="cpu"), environment={"hardware": {"threads": 2, "gpu": None}}, history=[],
        class_scores={"val": (80.0, 12.5, float("nan"))},
        iter=0, max_iters=steps, interval=50, rate=0.00385, best={}, chosen_by="mIoU",
    )  # fmt: skip
    return Some(**made | changes)


class Data(list[int]):
    class_names = ("sky", "building", "sign symbol")
    num_classes = 3

    def __len__(self) -> int:
        return 367


class Value:
    """A loss, which counts how often it is read."""

    read = 0

    def __float__(self) -> float:
        Value.read += 1
        return 1.234567


LOSSES = {"loss": Value(), "loss_main": Value(), "loss_aux_context": Value(), "loss_bind_logits": Value()}


def run(live: Live, state: Any, steps: int) -> None:
    """Take a training's steps, and validate at its intervals and at its end."""
    with live:
        live.before_first_stages(state)
        live.before_run(state)
        for step in range(steps):
            live.after_train_iter(state, batch_idx=step, data_batch={}, outputs=LOSSES)
            state.iter = step + 1
            if state.iter % state.interval == 0:
                live.before_val(state)
                for number in range(4):
                    live.after_val_iter(state, batch_idx=number, data_batch={}, outputs=None)
                scores = {"mIoU": 50 - state.iter / 10, "mAcc": 1.0, "aAcc": 98.7654}
                state.best = state.best or {"mIoU": scores["mIoU"], "step": state.iter}
                state.history.append({"step": state.iter, "val": scores})
                live.after_val_epoch(state, metrics=scores)
                live.after_val(state)
        live.after_run(state)


def console(width: int, terminal: bool = False) -> Console:
    return Console(width=width, height=50, file=io.StringIO(), force_terminal=terminal, color_system=None, _environ={})


def told(by: Console) -> list[str]:
    assert isinstance(by.file, io.StringIO)
    return by.file.getvalue().splitlines()


def test_without_a_terminal_a_training_is_told_in_lines() -> None:
    out = console(80)
    run(Live("my run", out), training(), 100)
    lines = told(out)
    assert lines[0] == (
        "my run: on cpu (2 threads), bf16, 367 training images, 101 validation images, 3 classes, student FastSCNN of "
        "1.14 M parameters, teacher ESPNet of 0.35 M parameters, loss main + 0.4*aux_context + 3*logits, 100 steps "
        "of 8 images, into work/students/camvid/fast_scnn"
    )
    steps = [line for line in lines if "/100" in line]
    assert [int(line.split()[1].split("/")[0]) for line in steps] == [1, *range(6, 100, 5), 100]
    assert steps[0] == "  step 1/100  lr 0.00385  loss 1.235  main 1.235  aux_context 1.235  logits 1.235"
    assert all("images/s" in line and "left" in line for line in steps[1:])
    assert "best" not in steps[9]
    assert steps[-1].endswith("  best mIoU 45.00 (step 50)")
    assert [line for line in lines if "val mIoU" in line] == [
        "  step 50: val mIoU 45.00, pixel accuracy 98.77",
        "  step 100: val mIoU 40.00, pixel accuracy 98.77",
    ]
    assert lines[-3].split() == ["sky", "80.0", "80.0"]
    assert "best, step 50" in " ".join(lines[-6:])


def test_images_without_labels_are_told() -> None:
    cfg = Some(data=Some(batch_size=8, unlabelled="photos", unlabelled_ratio=1.5), engine=Some(precision="bf16"))
    out = console(80)
    run(Live("my run", out), training(cfg=cfg), 100)
    assert "100 steps of 8 images and 1.5 times as many without labels, into" in told(out)[0]


def test_the_classes_are_left_out_where_they_are_not_wanted() -> None:
    out = console(80)
    run(Live("", out, per_class=False), training(), 100)
    assert told(out)[-1].startswith("  step 100: val mIoU")


def test_an_averaged_student_is_told_beside_the_other() -> None:
    out, state = console(80), training(steps=50)
    state.class_scores["val_ema"] = (81.5, 12.5, 0.0)
    live = Live("", out)
    state.iter, state.best = 50, {"mIoU": 45.0, "step": 50}
    state.history.append({"step": 50, "val": {"mIoU": 45.0}, "val_ema": {"mIoU": 46.0}})
    live.after_val_epoch(state, metrics={"mIoU": 45.0})
    live.after_run(state)
    lines = told(out)
    assert lines[:2] == ["  step 50: val mIoU 45.00", "  step 50: averaged student: val mIoU 46.00"]
    assert "averaged, step 50" in lines[3]
    assert lines[5].split() == ["sky", "80.0", "81.5"]


def test_losses_are_read_only_for_a_line() -> None:
    Value.read = 0
    run(Live("", console(80)), training(steps=1000, interval=1000), 1000)
    assert Value.read == len(LOSSES) * 21


def test_only_the_first_process_tells() -> None:
    out = console(80)
    run(Live("", out), training(rank=1), 100)
    assert told(out) == []


def test_a_line_comes_after_half_a_minute_at_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(screens.time, "monotonic", lambda: now[0])
    lines = screens.Lines(console(80))
    for step, late in ((1, True), (2, False), (3, True), (4, False)):
        now[0] += 31 if step == 3 else 1
        assert lines.due(step, 10_000) is late
        if late:
            lines.show([f"step {step}"], step, 10_000)


@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_terminal_of_any_width_shows_names_and_whole_numbers(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "IN_PLACE_EVERY", 0.0)
    out = console(width, terminal=True)
    run(Live("my run", out), training(), 100)
    shown = [re.sub(r"\x1b\[[?\d]*[a-zA-Z]|\r", "", line) for line in told(out)]
    assert max(map(len, shown)) <= width
    words = " ".join(" ".join(shown).split())
    parts = ["367 training images,", "aux_context 1.235", "lr 0.00385", "logits 1.235", "best mIoU 45.00 (step 50)"]
    parts += ["step 50: val mIoU 45.00, pixel accuracy 98.77", "sign symbol"]
    for part in parts:
        assert part in words


def test_a_terminal_takes_its_live_line_away_at_the_end() -> None:
    out = console(60, terminal=True)
    screen = screens.screen(out)
    assert screen.due(1, 10)
    screen.show(["step 1/10", "lr 0.1"], 1, 10)
    assert not screen.due(2, 10)
    screen.close()
    assert isinstance(out.file, io.StringIO)
    assert "━" * 6 + "─" * 54 + "\nstep 1/10  lr 0.1\n" in out.file.getvalue()
    assert out.file.getvalue().endswith("\x1b[1A\x1b[2K" * 2)


def test_a_notebook_writes_one_output_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    class Handle:
        def update(self, content: Any, raw: bool) -> None:
            written.append(("update", content["text/plain"], raw))

    def display(content: Any, raw: bool, display_id: bool) -> Handle:
        written.append(("display", content["text/plain"], raw))
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    screen = screens.screen(Console(force_jupyter=True))
    screen.show(["step 1/10"], 1, 10)
    screen.show(["step 2/10"], 2, 10)
    screen.close()
    assert written == [("display", "step 1/10", True), ("update", "step 2/10", True), ("update", "", True)]


def test_a_first_stage_is_told() -> None:
    out = console(80)
    live = Live("", out)
    with live:
        for step in (20, 40, 2000):
            live.first_stage({"first_stage": "deep", "step": step, "steps": 2000, "loss": 0.5})
        live.before_run(training())
        live.after_train_iter(training(), 0, {}, LOSSES)
    lines = told(out)
    assert lines[:2] == [
        "  first stage of deep  step 20/2000  loss 0.5",
        "  first stage of deep  step 2000/2000  loss 0.5",
    ]
    assert lines[2].startswith("on cpu")
    assert lines[3] == "  a note"
    assert lines[4].startswith("  step 1/100")


def test_the_clock_of_steps_stands_still_in_a_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("segkd.report.live.time.perf_counter", lambda: now[0])
    pace = Pace()
    for step, passes in ((1, 5.0), (2, 2.0), (3, 2.0)):
        now[0] += passes
        pace.mark(step)
        pace.pause()
        now[0] += 100
        pace.go_on()
    assert pace.seconds_per_step() == 2.0
    assert pace.pause_lasted == 100


def test_parts_are_never_broken_where_a_line_has_room() -> None:
    assert wrap(["step 1/10", "lr 0.1", "loss 1.5"], 18) == ["step 1/10  lr 0.1", "loss 1.5"]
    assert wrap(["into", "loss 1 main + 2 aux"], 12, indent="  ") == ["into", "  loss 1", "  main + 2", "  aux"]
    assert wrap(["a/path/of/many/folders"], 10) == ["a/path/of/many/folders"]


def test_terms_keep_their_kind_where_two_have_one_name() -> None:
    assert short(["loss_main", "loss_bind_deep", "critic_deep"]) == {
        "loss_main": "main", "loss_bind_deep": "deep", "critic_deep": "critic_deep"
    }  # fmt: skip
    assert short(["loss_deep", "loss_bind_deep"]) == {"loss_deep": "deep", "loss_bind_deep": "bind_deep"}
