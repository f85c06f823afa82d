"""What the README tells people to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from segkd.cli.main import parse
from segkd.registry import build
from segkd.training.configfile import find_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = "work/distill/camvid/fast_scnn_kd_cwd"
LINES = re.sub(r"\\\n\s*", "", README).splitlines()
COMMANDS = [line.partition("#")[0].strip() for line in LINES if line.startswith("    segkd ")]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8
    assert f"RUN={RUN} " in README


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(command: str) -> None:
    args = parse(shlex.split(command.replace("$RUN", RUN))[1:])
    config = getattr(args, "config", RUN)
    if args.command == "bench" and config == "blocks":
        return
    if args.command == "bench" and config == "step":
        (config,) = args.files
    if not config.startswith("work/"):
        assert find_config(config).is_file()
    else:
        assert config == RUN  # `segkd train` puts a shipped config's run there


def test_recipe_builds() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(code.replace('weights="teacher.pth"', "weights=None"), names)
    model = build(dict(names["model"], untrained_teacher=True), "model")  # type: ignore[call-overload]
    assert list(model.binds) == ["logits"]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z-]+)", README)):
        assert f"\n{target}:" in makefile, target


def test_the_map_names_the_folders_and_rooms_that_there_are() -> None:
    table = README.partition("## Map\n")[2]
    named = {
        name.rstrip("/") for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for name in row.split("`")[1::2]
    }
    found = {path.parent.relative_to(ROOT) for path in (ROOT / "segkd").glob("[!_]*/__init__.py")}
    assert {str(folder) for folder in found} <= named
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "segkd" / name).exists(), name
