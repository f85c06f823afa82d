"""The programs beside a shipped file: built, run, and held against each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.deploy.onnx import export_onnx
from segkd.deploy.tail import make_labels
from segkd.models import Network
from segkd.workbench.snippets import cpp_snippet, python_snippet

SIZE = (48, 64)
CLASSES = ["sky", 'a "quoted" name', "größer"]
HEADERS = [os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime"]


class Colours(Network):
    """The strongest of three channels, seen through a blur, at half the size."""

    def __init__(self) -> None:
        super().__init__(len(CLASSES))
        self.classifier = nn.Conv2d(3, len(CLASSES), 3, stride=2, padding=1)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.eye(3)[:, :, None, None].expand(3, 3, 3, 3) / 9)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.classifier(x), size=x.shape[-2:], mode="bilinear", align_corners=False)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snippets")
    export_onnx(Colours(), folder / "logits.onnx", SIZE, check_batches=(1,))
    make_labels(folder / "logits.onnx", folder / "student.onnx", "native")
    return folder / "student.onnx"


def built(labels: Path, folder: Path, way: str, *flags: str) -> Path:
    """A folder with the file, ``run.py``, and ``build/run``, built as CMakeLists.txt says."""
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("no cmake or no C++ compiler here")
    row = {"way": way, "size": list(SIZE)}
    shutil.copyfile(labels, folder / labels.name)
    texts = cpp_snippet(row, labels.name, CLASSES, threads=1)
    for name, text in {**texts, "run.py": python_snippet(row, labels.name, CLASSES)}.items():
        (folder / name).write_text(text, encoding="utf-8")
    assert "@" not in texts["run.cpp"]
    warn = "-DCMAKE_CXX_FLAGS=-O1 -Wall -Wextra -Wno-unused-parameter"
    for words in (
        ["cmake", "-B", "build", "-DCMAKE_BUILD_TYPE=None", warn, *flags, "."],
        ["cmake", "--build", "build"],
    ):
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "run.cpp" not in done.stderr  # no warning
    return folder


def same_labels(folder: Path) -> None:
    """Both programs give the same labels and words for images of the file's size, and nearly the same for others.

    There Pillow's pixels differ by one level from processor to processor: at less than 1 % the two strongest channels
    are as near to each other.
    """
    draw = np.random.default_rng(0)
    for height, width in (SIZE, (101, 75), (31, 64), (20, 30)):
        blocks = draw.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        image = np.kron(blocks, np.ones((4, 4, 1), np.uint8))[:height, :width]
        Image.fromarray(image).save(folder / "image.ppm")
        said = [_run(folder, sys.executable, "run.py", "image.ppm"), _run(folder, "build/run", "image.ppm")]
        shares = [[line.rsplit(": ", 1) for line in one.stdout.splitlines()] for one in said]
        python, cpp = (np.asarray(Image.open(folder / name)) for name in ("labels.png", "labels.pgm"))
        assert python.shape == cpp.shape == (height, width)
        assert len(np.unique(python)) == 3
        for found, rows in zip((python, cpp), shares, strict=True):
            counts = np.bincount(found.ravel(), minlength=3)
            assert rows == [[name, f"{100 * n / found.size:.1f} %"] for name, n in zip(CLASSES, counts, strict=True)]
        assert (python != cpp).mean() < (0.01 if (height, width) != SIZE else 1e-9)


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done


def test_onnxruntime_in_cpp(labels: Path, tmp_path: Path) -> None:
    header = next((path for path in HEADERS if path and (Path(path) / "onnxruntime_cxx_api.h").is_file()), None)
    if header is None:
        pytest.skip("ONNX Runtime's headers are not here: libonnxruntime-dev, or ONNXRUNTIME_INCLUDE=DIR")
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    found = sorted((Path(spec.submodule_search_locations[0]) / "capi").glob("libonnxruntime.so.*"))
    if not found:
        pytest.skip("this package of ONNX Runtime has no libonnxruntime.so")
    (tmp_path / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / "lib" / name).symlink_to(found[0])
    folder = built(
        labels, tmp_path, "onnxruntime int8", f"-DONNXRUNTIME_ROOT={tmp_path}", f"-DONNXRUNTIME_INCLUDE={header}"
    )
    same_labels(folder)
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / "short.ppm").write_bytes(b"P6 # of 2 pixels\n2 1\n255\nabc")
    for name, told in {
        "none.ppm": "cannot read none.ppm",
        "image.png": "image.png is no PPM",
        "short.ppm": "ends",
    }.items():
        done = subprocess.run(["build/run", name], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert told in line


def test_openvino_in_cpp(labels: Path, tmp_path: Path) -> None:
    spec = find_spec("openvino")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("the extra openvino is not installed")
    config = Path(spec.submodule_search_locations[0]) / "cmake"
    if not config.is_dir():
        pytest.skip("this package of OpenVINO has no headers")
    same_labels(built(labels, tmp_path, "openvino", f"-DOpenVINO_DIR={config}"))


def test_more_classes_than_an_image_of_bytes_holds() -> None:
    row = {"way": "onnxruntime", "size": [48, 64]}
    assert cpp_snippet(row, "student.onnx", ["class"] * 257) == {}
    assert set(cpp_snippet(row, "student.onnx", ["class"] * 256)) == {"run.cpp", "CMakeLists.txt"}
