"""``segkd check``, and the preflight of ``segkd train``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_kit import STUDENT, TINY, Refused, Run

from segkd.models import create

TAUGHT = (*STUDENT, "--teacher", "fast_scnn", "--recipe", "kd_cwd")


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that make a network of random weights the teacher."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "noise.pth"
    torch.save(create("fast_scnn", num_classes=11).state_dict(), file)
    return ["--set", f"model.teacher=dict(type='fast_scnn', num_classes=11, weights={str(file)!r})"]


def test_a_bad_teacher_gives_exit_code_1_and_a_line(segkd: Run, tree: Path, noise: list[str], tmp_path: Path) -> None:
    result = segkd("check", *TAUGHT, "--root", tree, "--sample", 2, "--json", "found.json", *noise, *TINY)
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("segkd check: teacher: ")
    assert line.endswith("its weights look missing or random: set model.teacher.weights")
    lines = result.out.splitlines()
    assert lines[0].split() == ["term", "value", "gradient", "at", "the", "shared", "layer", "times", "the", "labels'"]
    assert [text.split()[0] for text in lines[1:6]] == [
        "loss_main", "loss_aux_detail", "loss_aux_context", "loss_bind_pixel", "loss_bind_channel",
    ]  # fmt: skip
    assert "error: teacher: " in result.out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ok"] is False
    assert found["teachers"][0]["images"] == 2
    assert {"seconds_per_step", "peak_memory_mib", "disk_bytes", "free_bytes"} <= set(found["step"])
    assert found["step"]["steps"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"found.json"}


def test_a_sound_config_gives_exit_code_0(segkd: Run, tree: Path) -> None:
    result = segkd("check", *STUDENT, "--root", tree, *TINY)
    assert (result.code, result.err) == (0, "")
    assert "preflight (" in result.out
    assert "3 terms, " in result.out


def test_it_takes_the_words_of_train(segkd: Run, tree: Path, tmp_path: Path) -> None:
    words = ["--crop", "64x64", "--batch", 2, "--steps", 7, "--lr", 0.001, "--set", "data.workers=0"]
    result = segkd("check", *STUDENT, "--root", tree, *words, "--json", tmp_path / "found.json")
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "found.json").read_text())["step"]["steps"] == 7


def test_a_mistake_is_told_as_by_any_command(refused: Refused, tree: Path) -> None:
    said = refused("check", *STUDENT, "--root", tree, *TINY, "--set", "model.network.num_classes=5")
    assert "the student FastSCNN has num_classes=5, but CamVid has 11 classes" in said


def test_a_training_looks_first_unless_told_otherwise(
    segkd: Run, refused: Refused, tree: Path, noise: list[str], tmp_path: Path
) -> None:
    argv = ["train", *TAUGHT, "--root", tree, "--out", tmp_path / "run", *noise, *TINY]
    assert refused(*argv).endswith("set model.teacher.weights; to train all the same: --skip-preflight")
    assert not (tmp_path / "run").exists()
    result = segkd(*argv, "--skip-preflight")
    assert result.code == 0, result.err
    assert "preflight" not in result.out
    result = segkd("train", tmp_path / "run", "--resume", "--steps", 3)  # what goes on has been looked at
    assert result.code == 0, result.err
    assert "preflight" not in result.out


def test_a_training_that_has_no_fault_says_so_in_a_line(segkd: Run, tree: Path, tmp_path: Path) -> None:
    result = segkd("train", *STUDENT, "--root", tree, "--out", tmp_path / "run", *TINY)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].startswith("preflight (")
    assert lines[1].startswith("on cpu (")
