"""A teacher and a student trained for two steps by the functions of ``import segkd``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from face_kit import SCENES, TINY

import segkd
from segkd.face.run import Run


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return segkd.train("fast_scnn", data=SCENES, **TINY, out=tmp_path_factory.mktemp("runs") / "teacher")


@pytest.fixture(scope="session")
def student(teacher: Run) -> Run:
    return segkd.distill(student="contextnet", teacher=teacher, **TINY, out=teacher.folder.with_name("student"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path) -> Any:
    """An empty working folder."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)
