"""A run's log in TensorBoard, Weights & Biases and MLflow: names, steps, pictures, and how a resumed run goes on."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from types import SimpleNamespace as Some
from typing import Any

import pytest
from test_training import Watch, config

from segkd.errors import UserError
from segkd.training.loggers import scalars
from segkd.training.loop import train

SHEET = (2 * 52 + 22, 3 * 68 + 4, 3)  # two rows of three pictures of 48x64, with gaps and titles


def stopped_and_resumed(name: str, run: Path) -> None:
    """A run of four steps, stopped after the third: its state is of the second."""
    cfg = config(engine=dict(logger=name, val_images=2))
    with pytest.raises(KeyboardInterrupt):
        train(cfg, run, hooks=[Watch(crash_at=3)])
    train(cfg, run, resume=True)


def test_tensorboard_shows_losses_scores_and_pictures_at_their_steps(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stopped_and_resumed("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "vis"))
    events.Reload()
    steps = {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    for name in ("loss", "loss_main", "loss_aux", "lr", "seconds_per_step"):
        assert steps[f"train/{name}"] == [1, 2, 3, 3, 4]
    assert steps["val/mIoU"] == [2, 4]
    assert steps["gradients/loss_main"] == [1]
    pictures = events.Images("val_images")
    assert [(one.step, one.height, one.width) for one in pictures] == [(2, *SHEET[:2]), (4, *SHEET[:2])]


class Recorder(ModuleType):
    """A package whose functions note how they were called."""

    def __init__(self, name: str, **more: Any) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.calls: list[tuple[str, Any, Any]] = []
        vars(self).update(more)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))

    def of(self, name: str) -> list[tuple[Any, Any]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


def test_wandb_counts_the_runs_steps_and_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Recorder("wandb", Image=lambda picture: picture)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    stopped_and_resumed("wandb", tmp_path / "my_run")
    first, second = (kwargs for _, kwargs in fake.of("init"))
    assert first["id"] == second["id"] == (tmp_path / "my_run" / "vis" / "run_id").read_text().strip()
    assert (first["name"], first["project"], first["resume"]) == ("my_run", "segkd", "allow")
    assert first["dir"] == str(tmp_path / "my_run" / "vis")
    assert first["config"]["schedule"]["steps"] == 4
    assert dict(name="*", step_metric="step") in [kwargs for _, kwargs in fake.of("define_metric")]
    logged = [args[0] for args, _ in fake.of("log")]
    assert all("step" in one for one in logged)
    assert [one["step"] for one in logged if "train/loss" in one] == [1, 2, 3, 3, 4]
    assert [(one["step"], one["val_images"].shape) for one in logged if "val_images" in one] == [(2, SHEET), (4, SHEET)]
    assert [args for args, _ in fake.of("finish")] == [(1,), (0,)]  # stopped, then done


def test_a_new_run_in_the_same_folder_is_a_new_one_for_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Recorder("wandb", Image=lambda picture: picture)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):  # before there is a state
            train(config(engine=dict(logger="wandb")), tmp_path, hooks=[Watch(crash_at=1)])
    first, second = (kwargs["id"] for _, kwargs in fake.of("init"))
    assert first != second


class FakeMLflow(Recorder):
    """MLflow as far as it answers."""

    MlflowException = RuntimeError

    def start_run(self, run_id: str | None, run_name: str | None) -> Any:
        self.calls.append(("start_run", (), dict(run_id=run_id, run_name=run_name)))
        return Some(info=Some(run_id=run_id or "abc"))

    def get_experiment_by_name(self, name: str) -> None:
        return None


def test_mlflow_logs_at_the_runs_steps_and_goes_on_with_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeMLflow("mlflow")
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "my_run"
    stopped_and_resumed("mlflow", run)
    assert fake.of("set_tracking_uri")[0][0] == (f"sqlite:///{run / 'vis' / 'mlflow.db'}",)
    assert [kwargs for _, kwargs in fake.of("start_run")] == [
        dict(run_id=None, run_name="my_run"), dict(run_id="abc", run_name=None)
    ]  # fmt: skip
    logged = [args for args, _ in fake.of("log_metrics")]
    assert [step for values, step in logged if "train/loss" in values] == [1, 2, 3, 3, 4]
    assert [step for values, step in logged if "val/mIoU" in values] == [2, 4]
    pictures = [(name, picture.shape) for (picture, name), _ in fake.of("log_image")]
    assert pictures == [("val_images/step_000002.png", SHEET), ("val_images/step_000004.png", SHEET)]
    assert [args for args, _ in fake.of("end_run")] == [("KILLED",), ("FINISHED",)]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_told_before_the_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError) as error:
        train(config(engine=dict(logger=name)), tmp_path / "run")
    assert str(error.value) == f"engine.logger={name!r} needs a package that is not installed: pip install {name}"
    assert not (tmp_path / "run").exists()


def test_a_logger_that_cannot_start_is_told_and_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise ValueError("no API key configured\nlong story")

    monkeypatch.setitem(sys.modules, "wandb", Recorder("wandb", init=init))
    with pytest.raises(UserError, match=r"^engine.logger='wandb' cannot start: no API key configured$"):
        train(config(engine=dict(logger="wandb")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"engine.logger 'neptune' is not one of tensorboard, wandb, mlflow"):
        train(config(engine=dict(logger="neptune")), tmp_path / "run")


def test_lines_of_the_log_become_named_numbers() -> None:
    assert scalars({"step": 3, "lr": 0.1, "loss": 2.0}) == {"train/lr": 0.1, "train/loss": 2.0}
    assert scalars({"step": 3, "val": {"mIoU": 12.0}}) == {"val/mIoU": 12.0}
    assert scalars({"step": 3, "gradients": {"a": 1.0}, "shared_layer": "x"}) == {"gradients/a": 1.0}
    assert scalars({"step": 3, "warning": "x"}) == {}
