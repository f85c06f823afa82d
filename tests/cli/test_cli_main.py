"""The command line itself: help, exit codes, pipes, launchers, and text that goes to no terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import Run

from segkd.cli.main import COMMANDS
from segkd.training.configfile import KINDS, parts

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = ("train", "eval", "export", "quantize", "bench", "demo")


def test_help_of_every_command(segkd: Run) -> None:
    overview = segkd("--help")
    assert overview.code == 0
    for command in COMMANDS:
        result = segkd(command, "--help")
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith(f"usage: segkd {command}")
        assert re.search(rf"^    {command}\s", overview.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["trian"], "trian"),
        (["train"], "CONFIG"),
        (["train", "x", "--set", "a=1", "b=2"], "each KEY=VALUE needs its own --set"),
        (["export", "x", "--weights", "y"], "--size"),
        (["export", "x", "--weights", "y", "--size", "360"], "'360' is no size"),
        (["export", "x", "--weights", "y", "--size", "16x640"], "32 or more"),
        (["bench", "x", "--repeats", "0"], "'0' is no integer"),
        (["predict", "x", "--alpha", "2"], "'2' is no number in 0..1"),
        (["export", "fast_scnn", "--weights", "w.pth", "--size", "²x64"], "is no size"),
    ],
)
def test_arguments_that_cannot_be_read(segkd: Run, arguments: list[str], message: str) -> None:
    result = segkd(*arguments)
    assert result.code == 2
    assert message in result.err.splitlines()[-1]
    assert "Traceback" not in result.err


def test_an_error_of_the_system_is_one_line_too(segkd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(args: object) -> None:
        raise OSError(28, "No space left on device", "work/run/state.pth")

    monkeypatch.setattr("segkd.cli.configs.run", full)
    result = segkd("configs")
    assert (result.code, result.err) == (2, "segkd configs: error: work/run/state.pth: No space left on device\n")


def test_configs_lists_the_keys_and_writes_their_page(segkd: Run, tmp_path: Path) -> None:
    assert "  batch_size: int in images, default 8" in segkd("configs", "--keys").out
    assert segkd("configs", "--keys", "--markdown", tmp_path / "keys.md").code == 0
    assert "| `batch_size` | int | `8` | images |" in (tmp_path / "keys.md").read_text()
    assert "add --keys" in segkd("configs", "--markdown", tmp_path / "none.md").err
    assert not (tmp_path / "none.md").exists()


def test_configs_lists_what_is_shipped(segkd: Run) -> None:
    result = segkd("configs")
    assert result.code == 0
    shown: dict[str, list[str]] = {}
    for line in result.out.splitlines():
        if not line.startswith(" "):
            kind = line.partition(":")[0]
        elif not line.startswith("  "):
            shown.setdefault(kind, []).append(line.split()[0])
    assert shown == {kind: parts(kind) for kind in KINDS}


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "segkd", "configs"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_run_from_anywhere(name: str, tmp_path: Path) -> None:
    launcher = [sys.executable, str(ROOT / "tools" / f"{name}.py"), "--help"]
    done = subprocess.run(launcher, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: segkd {name}")


def test_no_launcher_shadows_a_module_of_python() -> None:
    assert not {path.stem for path in (ROOT / "tools").glob("*.py")} & set(sys.stdlib_module_names)
