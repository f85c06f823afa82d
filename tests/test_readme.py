"""What the README tells people to type exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import segkd
from segkd.cli.common import default_run, load, take_files
from segkd.cli.main import main, parse
from segkd.datasets.synthetic import SyntheticStreets
from segkd.registry import build
from segkd.workbench.arms import compose_arms

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
RUN = "work/fast_scnn_dist_camvid"
LINES = re.sub(r"\\\n\s*", "", README).splitlines()
#: what the README gives a name to: ``    RUN=work/...``, ``    TAUGHT="--student ..."``
NAMED = re.findall(r'^    ([A-Z]+)="?([^"#\n]*?)"?(?: +#.*)?$', README, re.MULTILINE)
COMMANDS = [line.partition("#")[0].strip() for line in LINES if line.startswith("    segkd ") and " ... " not in line]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8
    assert dict(NAMED)["RUN"] == RUN


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(command: str) -> None:
    for name, text in reversed(NAMED):  # those that came before may stand in those that follow
        command = command.replace(f"${name}", text)
    args = parse(shlex.split(command)[1:])
    if args.command == "compare":
        assert compose_arms(args.student, args.recipes, args.teacher, data=args.data, root=args.root)
        return
    if getattr(args, "student", None):
        if hasattr(args, "files"):
            take_files(args)
        if args.command == "train" and args.recipe:
            assert default_run(args) == Path(RUN)
        if args.data != "folder":
            assert load(args)["model"]
        return
    config = getattr(args, "config", RUN)
    if args.command == "bench" and config in ("blocks", "step"):
        return
    assert config in (RUN, "CONFIG")


def block(text: str) -> str:
    """The one block of Python that holds a text."""
    (found,) = [code for code in BLOCKS if text in code]
    return found


def run(code: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names


@pytest.fixture
def shortly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder where each training takes two steps of two images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(SyntheticStreets, "__len__", lambda self: 4)
    for name in ("train", "distill"):
        monkeypatch.setattr(segkd, name, partial(_short, getattr(segkd, name)))


def _short(function: Callable[..., object], *args: object, **words: object) -> object:
    words = {key: value for key, value in words.items() if key != "epochs"}
    return function(*args, **{**words, "steps": 2, "batch": 2, "preflight": False, "progress": False})


@pytest.mark.usefixtures("shortly")
def test_the_pipeline_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    code = block('segkd.distill("fast_scnn", teacher')
    assert len(code.splitlines()) <= 15
    assert README.index(code) < README.index("## CamVid")
    run(code)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[3:]] == ["teacher", "alone", "distilled", "ONNX", "int8"]
    assert main(["eval", "work/student", "work/student/student_best.pth", "--no-speed"]) == 0


@pytest.mark.usefixtures("shortly")
def test_own_parts_work_from_python_and_by_a_config_beside_them(tmp_path: Path) -> None:
    files = {text.partition(".py\n")[0].removeprefix("# "): text for text in BLOCKS if text.startswith("# my_")}
    assert list(files) == ["my_loss", "my_network", "my_data", "my_hook", "my_config"]
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(block("segkd.train(Tiny"))
    other = tmp_path / "elsewhere"
    other.mkdir()
    for folder, config in ((tmp_path, "my_config.py"), (other, "../my_config.py")):
        command = [sys.executable, "-m", "segkd", "train", config, "--steps", "2", "--batch", "2", "--out", "work/own"]
        command += ["--skip-preflight"]  # a teacher of two steps is none
        command += ["--set", f"model.teacher.weights={tmp_path / 'work/teacher/student_best.pth'}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT, check=False)
        assert done.returncode == 0, done.stderr
        logged = (folder / "work/own/log.jsonl").read_text()
        assert "loss_bind_far" in logged
    own = other / "work/own"  # opens from anywhere, by its folder alone
    command = [sys.executable, "-m", "segkd", "eval", str(own), str(own / "student_last.pth"), "--no-speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr


def test_recipe_builds() -> None:
    code = block("from segkd.models.smp import SmpModel")
    names = run(code.replace('weights="teacher.pth"', "weights=None"))
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


def test_the_table_of_routes_is_what_was_timed() -> None:
    found = json.loads((ROOT / "models" / "deploy_speed.json").read_text(encoding="utf-8"))["networks"]
    ways = [f"onnxruntime{kind}" for kind in ("", " int8", " int8 conv")]
    ways += [f"openvino{kind}" for kind in ("", " bf16", " int8")]
    for name, times in found.items():
        host = times["onnxruntime, full"]["median_ms"]
        least = {way: min(row["median_ms"] for what, row in times.items() if _in_graph(what, way)) for way in ways}
        cells = [f"`{name}`", f"{host:.0f}", *(f"{host / ms:.1f}" for ms in least.values())]
        assert f"| {' | '.join(cells)} |" in LINES


def _in_graph(what: str, way: str) -> bool:
    made, _, tail = what.rpartition(", ")
    return made == way and tail != "full"


def test_the_table_of_recipes_at_equal_time_is_what_was_measured() -> None:
    folder = ROOT / "configs" / "recipes"
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    rows = json.loads((folder / "results" / "equal_time.json").read_text(encoding="utf-8"))["rows"]
    assert {path.stem for path in folder.glob("*.py")} < {row["name"] for row in rows}
    for row in rows:
        name = row["name"].removesuffix("_classifier").replace("kd_dist", "kd")
        cells = f" | {row['steps']} | {row['miou']:.2f} | "
        if row["name"] != "alone":
            cells += f"{row['gain']:+.2f} ({row['gain_low']:+.2f} to {row['gain_high']:+.2f})"
        assert [line for line in lines if cells in line and line.startswith((f"| `{name}`", "| alone"))], row["name"]
