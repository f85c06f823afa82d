"""A small CamVid tree, a run of two steps on it, and its ONNX file; commands run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_kit import STUDENT, TINY, Refused, Result, Run, write_tree

from segkd.cli.main import main


@pytest.fixture
def segkd(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``segkd("eval", ...)`` in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(a) for a in argv])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(segkd: Run) -> Refused:
    """Runs a command that must fail with exit code 2 and one line on stderr, which is returned."""

    def run(*argv: object) -> str:
        result = segkd(*argv)
        assert result.code == 2, result
        lines = result.err.splitlines()
        assert len(lines) == 1, result.err
        assert lines[0].startswith("segkd")
        assert ": error: " in lines[0]
        return lines[0]

    return run


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("data") / "camvid")


@pytest.fixture
def own_tree(tmp_path: Path) -> Path:
    """A tree that a test may damage."""
    return write_tree(tmp_path / "camvid")


@pytest.fixture(scope="session")
def trained(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "student"
    assert main(["train", *STUDENT, "--root", str(tree), "--out", str(folder), *TINY]) == 0
    return folder


@pytest.fixture(scope="session")
def exported(trained: Path) -> Path:
    """Its last weights as ONNX."""
    weights, out = trained / "student_last.pth", trained.parent / "student.onnx"
    assert main(["export", str(trained), "--weights", str(weights), "--size", "64x96", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def int8(trained: Path, exported: Path) -> Path:
    out = exported.with_name("student_int8.onnx")
    assert main(["quantize", str(trained), str(exported), "--images", "3", "--out", str(out)]) == 0
    return out
