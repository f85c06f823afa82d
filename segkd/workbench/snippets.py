"""What lies beside a shipped file: the few lines of Python that run it, a program in C++, and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"

PYTHON_ONNX = '''"""Labels of an image by {file}: python run.py IMAGE -> labels.png, the class of each pixel."""

import sys

import numpy as np
import onnxruntime
from PIL import Image

HEIGHT, WIDTH = {height}, {width}
CLASSES = {classes}

image = Image.open(sys.argv[1]).convert("RGB")
small = np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None]
session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
(labels,) = session.run(None, {{"image": np.ascontiguousarray(small)}})
found = Image.fromarray(labels[0].astype(np.{kind})).resize(image.size, Image.Resampling.NEAREST)
found.save("labels.png")
counts = np.bincount(np.asarray(found).ravel(), minlength=len(CLASSES))
for name, count in zip(CLASSES, counts):
    print(f"{{name}}: {{100 * count / counts.sum():.1f}} %")
'''
PYTHON_OPENVINO = PYTHON_ONNX.replace("import onnxruntime\n", "import openvino\n").replace(
    """session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
(labels,) = session.run(None, {{"image": np.ascontiguousarray(small)}})
""",
    """core = openvino.Core()
model = core.read_model("{file}")
model.reshape([1, 3, HEIGHT, WIDTH])
compiled = core.compile_model(model, "CPU", {{"PERFORMANCE_HINT": "LATENCY"{precision}}})
(labels,) = compiled(np.ascontiguousarray(small)).values()
""",
)
INCLUDES = {
    "onnxruntime": "#include <filesystem>\n\n#include <onnxruntime_cxx_api.h>",
    "openvino": "#include <openvino/openvino.hpp>",
}


def python_snippet(row: Mapping[str, Any], file: str, classes: Sequence[str]) -> str:
    """A script that runs the file, without segkd."""
    way = str(row["way"])
    height, width = row["size"]
    text = PYTHON_OPENVINO if way.startswith("openvino") else PYTHON_ONNX
    hint = ', "INFERENCE_PRECISION_HINT": "bf16"' if way == "openvino bf16" else ', "INFERENCE_PRECISION_HINT": "f32"'
    kind = "uint8" if len(classes) <= 256 else "uint16"
    return text.format(file=file, height=height, width=width, classes=list(classes), precision=hint, kind=kind)


def cpp_snippet(row: Mapping[str, Any], file: str, classes: Sequence[str], threads: int = 2) -> dict[str, str]:
    """A C++17 program that runs the file, and the CMakeLists.txt that builds it, by their names.

    It gives the labels of ``python_snippet``. Of more than 256 classes, which the labels of its images cannot hold, it
    is nothing.
    """
    if len(classes) > 256:
        return {}
    way = str(row["way"])
    runtime = "openvino" if way.startswith("openvino") else "onnxruntime"
    height, width = row["size"]
    values = {
        "INCLUDE": INCLUDES[runtime],
        "PREDICT": _template(f"{runtime}.cpp"),
        "PRECISION": "ov::element::bf16" if way == "openvino bf16" else "ov::element::f32",
        "FILE": file, "HEIGHT": height, "WIDTH": width, "THREADS": threads,
        "CLASSES": ", ".join(json.dumps(name, ensure_ascii=False) for name in classes),
    }  # fmt: skip
    text = _template("image.cpp")
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return {"run.cpp": text, "CMakeLists.txt": _template(f"{runtime}.cmake")}


def texts_beside(row: Mapping[str, Any], file: str, classes: Sequence[str], about: Mapping[str, Any]) -> dict[str, str]:
    """All that lies beside a shipped file, by the files' names; ``about`` as for ``card``."""
    return {
        "run.py": python_snippet(row, file, classes),
        "README.md": card(row, file, classes, about),
        **cpp_snippet(row, file, classes, about["threads"]),
    }


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def card(row: Mapping[str, Any], file: str, classes: Sequence[str], about: Mapping[str, Any]) -> str:
    """The page of a shipped file: what it takes and gives, how good and how fast it is, and where that was measured."""
    height, width = row["size"]
    hardware = about["hardware"]
    cpp = "" if len(classes) > 256 else "`run.cpp` does the same in C++; `CMakeLists.txt` says how to build it.\n"
    return f"""# {file}

Segments images into {len(classes)} classes: {", ".join(classes)}.

| | |
|---|---|
| takes | `image` (N, 3, {height}, {width}) uint8 RGB; preprocessing is inside |
| gives | `labels` (N, {height}, {width}): the class of each pixel |
| runs by | {row["way"]}; labels are taken at: {row["tail"]} |
| mIoU | {row["miou"]:.2f} % on {about["split"]}, {about["images"]} images, labels at the images' own size |
| time | {row["latency_ms"]:.1f} ms an image, {about["threads"]} threads of {hardware["cpu"]} |
| size | {row["file_bytes"] / 2**20:.2f} MiB |

    python run.py IMAGE     # writes labels.png, and says the share of each class

{cpp}
`ship.json` has all files that were tried, `front.png` shows them.
"""
