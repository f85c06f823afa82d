"""Hooks from a config: mmengine's own, a user's, their order, and what isn't one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import EarlyStoppingHook, Hook
from test_training import config

from segkd.errors import UserError
from segkd.training.hooks import POINTS, PRIORITIES, Hooks
from segkd.training.loop import train

CALLED: list[str] = []


class Recorder(Hook):
    """A user's hook in mmengine's manner: it halves the rate after the second step, and writes to the log."""

    priority = "LOW"

    def __init__(self, word: str) -> None:
        self.word = word

    def before_train(self, runner: Any) -> None:
        CALLED.append(f"{self.word} {runner.max_iters} {len(runner.train_dataloader)} {type(runner.model).__name__}")

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        assert outputs is not None
        assert data_batch["image"].dtype == torch.uint8
        CALLED.append(f"step {runner.iter} {float(outputs['loss']) > 0}")
        if runner.iter == 1:
            for group in runner.optimizers["student"].param_groups:
                group["lr"] *= 0.5
            runner.logger.info("halved")

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        assert metrics is not None
        CALLED.append(f"val {runner.iter} {'mIoU' in metrics}")


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_users_hook_gets_what_mmengines_hooks_get(tmp_path: Path) -> None:
    CALLED.clear()
    schedule = dict(steps=4, val_interval=2, warmup=0, policy="constant")
    train(config(schedule=schedule) | dict(hooks=[dict(type=Recorder, word="own")]), tmp_path / "run")
    steps = [f"step {step} True" for step in range(4)]
    assert ["own 4 4 Segmentor", *steps[:2], "val 2 True", *steps[2:], "val 4 True"] == CALLED
    rates = [record["lr"] for record in log(tmp_path / "run") if "lr" in record]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])
    assert any("halved" in str(record) for record in log(tmp_path / "run"))


def test_mmengines_early_stopping_ends_the_run(tmp_path: Path) -> None:
    """A score that must rise by 1000 points never does: patience 2 ends it at the third validation."""
    hook = dict(type=EarlyStoppingHook, monitor="mIoU", rule="greater", min_delta=1000, patience=2)
    cfg = config(schedule=dict(steps=12, val_interval=1, warmup=0)) | dict(hooks=[hook])
    metrics = train(cfg, tmp_path / "run")
    assert (metrics["steps"], metrics["steps_planned"]) == (3, 12)
    assert [record["step"] for record in log(tmp_path / "run") if "val" in record] == [1, 2, 3]
    assert torch.load(tmp_path / "run" / "state.pth", weights_only=True)["step"] == 3


def test_priorities_order_hooks() -> None:
    said: list[str] = []

    class Says:
        def __init__(self, name: str, priority: Any) -> None:
            self.name, self.priority = name, priority

        def before_run(self, training: Any) -> None:
            said.append(self.name)

    hooks = [Says("late", "VERY_LOW"), Says("first", "NORMAL"), Says("second", 50), Says("early", 10)]
    Hooks(hooks).call("before_run", None)
    assert said == ["early", "first", "second", "late"]
    with pytest.raises(UserError, match="priority 'URGENT' is not one of HIGHEST"):
        Hooks([Says("x", "URGENT")])


def test_priorities_are_mmengines() -> None:
    from mmengine.hooks.hook import Hook as Theirs
    from mmengine.runner.priority import get_priority

    for name in ("HIGHEST", "VERY_HIGH", "HIGH", "ABOVE_NORMAL", "NORMAL", "BELOW_NORMAL", "LOW", "VERY_LOW", "LOWEST"):
        ours = Hooks([type("One", (), {"priority": name})()])
        assert ours.hooks[0].priority == name
        assert get_priority(name) == PRIORITIES[name]
    points = {point for point in POINTS if not hasattr(Theirs, point)}
    assert points <= {"before_first_stages", "after_log", "after_image_kept"}  # ours


@pytest.mark.parametrize(
    ("hook", "said"), [(dict(type=dict), "is no hook"), ("Recorder", "hook"), (dict(type="tests.none"), "none")]
)
def test_what_is_no_hook_is_refused_before_there_is_a_file(tmp_path: Path, hook: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        train(config() | dict(hooks=[hook]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
