"""Released networks by name: the table is of the folders; what is not here is got whole from where one says."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import segkd
from segkd.cli.main import main
from segkd.errors import UserError
from segkd.models.fast_scnn import FastSCNN
from segkd.workbench import zoo
from segkd.workbench.composing import teacher_config
from segkd.workbench.zoo import download, find_release, releases

ROOT = Path(__file__).parents[2]
NAME, TEACHER = "fast_scnn_camvid", "light_fpn_synthetic"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As from a wheel: no ``models/`` beside the package, and an empty folder of downloads."""
    monkeypatch.setattr(zoo.segkd, "__file__", str(tmp_path / "lib" / "segkd" / "__init__.py"))
    monkeypatch.setenv("SEGKD_MODELS", str(tmp_path / "cache"))
    monkeypatch.delenv("SEGKD_ZOO", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def host() -> Iterator[str]:
    """``models/`` of the checkout on a port of this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(ROOT / "models"))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_table_is_that_of_the_folders() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import release
    finally:
        sys.path.pop(0)
    folders = sorted(path.parent for path in (ROOT / "models").glob("*/SHA256SUMS"))
    rows = [release.row(folder) for folder in folders]
    assert rows == [dict(one._asdict()) for one in releases().values()], "run tools/release.py"
    assert sum(one.bytes for one in releases().values()) < 60e6


def test_a_name_is_a_network_a_teacher_and_a_model() -> None:
    network = segkd.load(NAME)
    assert isinstance(network, FastSCNN)
    image = np.random.default_rng(0).integers(0, 256, (360, 480, 3), dtype=np.uint8)
    by_name = segkd.predict(image, model=NAME)
    np.testing.assert_array_equal(by_name.label, segkd.predict(image).label)
    exact = segkd.predict(image, model=network)
    assert (by_name.label == exact.label).mean() > 0.8  # int8 against float32, on noise
    cfg = teacher_config(NAME, 11)
    weights = torch.load(cfg["weights"], weights_only=True)
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())


def test_from_a_host_and_from_a_folder(elsewhere: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=rf"{NAME} is not on this machine: segkd models --download {NAME} --from URL"):
        segkd.load(NAME)
    assert download(NAME, host) == elsewhere / NAME
    assert isinstance(segkd.load(NAME), FastSCNN)
    assert {path.name for path in (elsewhere / NAME).iterdir()} == set(releases()[NAME].files)
    shutil.rmtree(elsewhere)
    monkeypatch.setenv("SEGKD_ZOO", str(ROOT / "models"))
    assert main(["models", "--download", NAME]) == 0
    assert find_release(NAME, "student.pth").is_file()
    assert [path.name for path in elsewhere.iterdir()] == [NAME]


def test_what_is_no_release_leaves_nothing(elsewhere: Path, host: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "models" / NAME, other / NAME)
    (other / NAME / "student.pth").write_bytes(b"something else")
    for source, message in (
        (str(other), "student.pth is not the released file: its checksum differs"),
        (f"{host}/absent", "cannot read http.*absent.*: HTTP Error 404"),
        (str(tmp_path / "absent"), "cannot read .*No such file"),
        ("nonsense://x", "cannot read nonsense://x/.*unknown url type"),
        (None, "say where from: --from URL|DIR, or SEGKD_ZOO in the environment"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            download(NAME, source)
        assert "\n" not in str(caught.value)
        assert not elsewhere.exists() or list(elsewhere.iterdir()) == []
    with pytest.raises(UserError, match=f"no released network is called 'fast_scnn_camvi'; did you mean '{NAME}'"):
        download("fast_scnn_camvi", host)


def test_a_name_is_scored_with_its_files(tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    assert main(["eval", TEACHER, "--no-speed", "--set", "data.val.length=6", "--json", str(scores)]) == 0
    rows = json.loads(scores.read_text())["rows"]
    assert [row["name"] for row in rows] == ["student.pth", "student_int8.onnx"]
    assert all(row["miou"] > 45 for row in rows)
    by_path = tmp_path / "by_path.json"
    folder = str(ROOT / "models" / TEACHER)
    assert main(["eval", folder, "--no-speed", "--set", "data.val.length=6", "--json", str(by_path)]) == 0
    assert json.loads(by_path.read_text())["rows"] == rows


def test_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--released"]) == 0
    out = capsys.readouterr().out
    assert f"{NAME} fast_scnn camvid, 360x480" in " ".join(out.split())
    assert "49.75" in out
