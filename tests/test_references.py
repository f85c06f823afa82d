"""The commands of configs/REFERENCES.md: each composes all its arms, and runs on a small tree."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from segkd.cli.main import main, parse
from segkd.models.catalogue import entry
from segkd.workbench.arms import compose_arms

PAGE = Path(__file__).parents[1] / "configs" / "REFERENCES.md"
COMMANDS = [
    shlex.split(found.replace("$R18", ""))
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if (found := "".join(re.findall(r"`(--student [^`]*--recipes [^`]*)`", line)))
]
#: the networks whose files stand for the teachers
TEACHERS = {"T101": "deeplabv3_r101", "ddrnet23@ddrnet23.pth": "ddrnet23"}
by_command = pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: f"{command[1]}-{command[command.index('--recipes') + 1]}"
)


def test_the_page_has_every_row() -> None:
    assert len(COMMANDS) == 9
    students = {command[1] for command in COMMANDS}
    assert students == {"deeplabv3_r18", "pspnet_r18", "ddrnet23_slim", "espnet"}


@by_command
def test_a_command_composes_all_arms(command: list[str]) -> None:
    args = parse(["compare", *command, "--seeds", "3"])
    teacher = f"{TEACHERS[args.teacher]}@none.pth"  # composing opens no file
    cfgs = compose_arms(args.student, args.recipes, teacher, data=args.data, schedule=args.schedule)
    assert list(cfgs) == args.recipes
    lengths = {cfg["schedule"].get("steps") for cfg in cfgs.values()}
    assert len(lengths) == 1
    if args.schedule == "cirkd":
        assert lengths == {40000}
        crop = {"camvid": (360, 360), "cityscapes": (512, 1024)}[args.data]
        for cfg in cfgs.values():
            assert tuple(cfg["data"]["augment"]["crop_size"]) == crop
            assert cfg["data"]["batch_size"] == 16
            assert cfg["optim"]["optimizer"]["lr"] == 0.02


@pytest.mark.slow
@pytest.mark.timeout(1200)
@by_command
def test_a_command_runs_on_a_small_tree(command: list[str], request: pytest.FixtureRequest, tmp_path: Path) -> None:
    data = command[command.index("--data") + 1]
    root = request.getfixturevalue("camvid_tree" if data == "camvid" else "cityscapes")
    at = command.index("--teacher") + 1
    name, file = TEACHERS[command[at]], tmp_path / "teacher.pth"
    torch.manual_seed(0)
    torch.save(entry(name).build(11 if data == "camvid" else 19).state_dict(), file)
    command = [*command[:at], f"{name}@{file}", *command[at + 1 :], "--root", str(root), "--seeds", "1", "--steps", "2"]
    small = ("data.augment.crop_size=64,64", "data.batch_size=2", "data.workers=0", "engine.val_images=0")
    out = tmp_path / "arms"
    assert main(["compare", *command, "--out", str(out), *(f"--set={text}" for text in small)]) == 0
    assert (out / "comparison.json").is_file()
