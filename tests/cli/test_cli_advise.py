"""``segkd advise``: tables, reasons, and settings that ``segkd train`` takes as they are printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import torch
from cli_kit import STUDENT, TINY, Refused, Run

from segkd.cli.common import load
from segkd.cli.main import parser
from segkd.models import create


def taught(tmp_path: Path, tree: Path) -> list[str]:
    """A distillation with an untrained ContextNet as a teacher, in the words of the command line."""
    torch.save(create("contextnet", num_classes=11).state_dict(), tmp_path / "teacher.pth")
    teacher = f"model.teacher=dict(type='contextnet',num_classes=11,weights='{tmp_path / 'teacher.pth'}')"
    return [*STUDENT, "--teacher", "contextnet", "--recipe", "kd_cwd", "--root", str(tree), *TINY, "--set", teacher]


def test_what_is_printed_can_be_pasted(segkd: Run, tmp_path: Path, tree: Path, trained: Path) -> None:
    words = taught(tmp_path, tree)
    json_file = tmp_path / "advice.json"
    result = segkd("advise", *words, "--sample", 2, "--batches", 1, "--student-weights", trained, "--json", json_file)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == "The teacher ContextNet for the student FastSCNN, on 2 train images and 2 val images:"
    assert "- distillation will hardly help: this teacher is none" in lines  # it was never trained
    says = [k for k, line in enumerate(lines) if line.startswith("- ")]
    assert len(says) > 8
    assert all(lines[k + 1].startswith("  because: ") for k in says)

    content = json.loads(json_file.read_text())
    assert content["helps"] == "hardly"
    assert content["images"] == {"train": 2, "val": 2}
    assert {row["term"] for row in content["pulls"]} >= {"pixel", "channel"}
    assert content["findings"][0].keys() == {"says", "because"}
    assert content["classes"][0]["student_iou"] is not None

    first = next(k for k, line in enumerate(lines) if line.startswith("segkd train"))
    command = "\n".join(lines[first:]).partition("\n\n")[0].partition("\nwrote")[0].replace("\\\n", " ")
    args = parser().parse_args(shlex.split(command)[1:])
    cfg = load(args)
    assert list(cfg["data"]["augment"]["scale"]) == content["settings"]["data.augment.scale"]
    for name in ("pixel", "channel"):
        assert cfg["model"]["binds"][name]["weight"] == content["settings"][f"model.binds.{name}.weight"]


def test_a_recipe_in_place_of_the_config_s_terms_can_be_pasted(segkd: Run, tmp_path: Path, tree: Path) -> None:
    words = taught(tmp_path, tree)
    words += ["--set", "model.binds=dict(hint=dict(student='',teacher='',loss=dict(type='at')))"]
    result = segkd("advise", *words, "--sample", 1, "--batches", 1)
    assert result.code == 0, result.err
    added = result.out.partition("in place of this config's terms, add:")[2]
    settings = [word for word in shlex.split(added) if word not in ("--set", "\n")]
    more = [word for setting in settings if "=" in setting for word in ("--set", setting)]
    cfg = load(parser().parse_args(["train", *words, *more]))
    on = [name for name, bind in cfg["model"]["binds"].items() if bind.get("weight", 1)]
    assert len(on) == 1
    assert cfg["model"]["binds"][on[0]]["loss"]["type"] == on[0]
    assert cfg["model"]["binds"][on[0]]["masked"] is True


def test_a_network_alone_is_refused(refused: Refused, tree: Path) -> None:
    assert "has no teacher" in refused("advise", *STUDENT, "--root", tree)
