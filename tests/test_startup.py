"""What a fresh interpreter imports, and how long that takes: nothing that the work at hand does not need."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import segkd
from segkd.models.catalogue import catalogue, counted

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    *("segmentation_models_pytorch", "timm", "torchvision", "transformers", "torchmetrics"),
    *("albumentations", "scipy", "sklearn", "matplotlib", "pandas"),
    *("onnx", "onnxscript", "onnxruntime", "openvino"),
}
COMMAND = """import contextlib, sys
from segkd.cli.main import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])"""


def fresh(code: str, *arguments: str) -> set[str]:
    """The top-level modules that an interpreter has imported when it has run ``code``."""
    told = f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", told, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "code",
    [
        "import segkd.models, segkd.losses, segkd.datasets",
        "from segkd import models, losses, datasets; models.names(); losses.names(); datasets.names()",
        "from segkd import models, losses; models.create('fast_scnn', num_classes=19); losses.create('cwd')",
        "import segkd.models.smp, segkd.models.timm, segkd.models.torchvision, segkd.models.light_fpn",
        "import segkd.datasets.loading, segkd.datasets.transforms, segkd.datasets.camvid",
        "import segkd.evaluation.scores, segkd.evaluation.inference, segkd.evaluation.speed",
        "import segkd.report.tables, segkd.report.pictures, segkd.report.networks",
    ],
)
def test_libraries_are_imported_by_what_needs_them(code: str) -> None:
    assert not fresh(code) & HEAVY


@pytest.mark.parametrize("code", ["import segkd.models.catalogue", "import segkd.models, segkd.datasets"])
def test_torch_is_not_needed_to_name_things(code: str) -> None:
    assert not fresh(code) & (HEAVY | {"torch"})


@pytest.mark.parametrize("arguments", ["--help", "models --help", "models", "configs", "configs --keys"])
def test_what_only_prints_does_not_import_torch(arguments: str) -> None:
    if arguments == "models" and set(catalogue()) - set(counted(19)):
        pytest.skip("a network is not in the shipped table yet, and is counted")
    assert not fresh(COMMAND, *arguments.split()) & (HEAVY | {"torch"})


#: ends a training where it would begin to build things
STOPPED = """import segkd.training.loop
def stop(*args):
    raise KeyboardInterrupt
segkd.training.loop.Training.__init__ = stop
"""
SCENES = "dict(type='synthetic', size=(64, 96), length=2)"
FUNCTIONS = [
    "train",
    "distill",
    "check",
    "compare",
    "evaluate",
    "export",
    "quantize",
    "bench",
    "ship",
    "cache",
    "predict",
    "label",
    "advise",
    "load",
    "Distiller",
    "Segmentor",
    "Bind",
    "tap",
]


def test_the_face_is_there_at_once_and_imports_nothing_until_it_is_used() -> None:
    assert fresh("import segkd; dir(segkd)") <= fresh("") | {"segkd", "__future__"}
    loaded = fresh("import segkd; [segkd.train, segkd.distill, segkd.evaluate, segkd.export, segkd.load]")
    assert not loaded & (HEAVY | {"torch", "numpy", "cv2", "rich", "mmengine"})
    assert {*FUNCTIONS, "data"} == set(segkd.__all__) <= set(dir(segkd))
    assert all(callable(getattr(segkd, name)) for name in FUNCTIONS)
    with pytest.raises(AttributeError, match="module 'segkd' has no attribute 'trian'"):
        segkd.trian  # noqa: B018


def test_a_training_has_imported_little_more_than_torch_when_it_begins() -> None:
    by_name = f"""{STOPPED}
import contextlib, segkd
with contextlib.suppress(KeyboardInterrupt):
    segkd.train('fast_scnn', data={SCENES}, steps=1, size=(64, 96), out='work/none', progress=False)"""
    assert not fresh(by_name) & (HEAVY | {"triton"})
    command = STOPPED + COMMAND
    parts = ("--student", "fast_scnn", "--data", "synthetic")
    assert not fresh(command, "train", *parts, "--out", "work/none") & (HEAVY | {"triton"})


@pytest.mark.slow
def test_the_check_itself_sees_an_import() -> None:
    assert "timm" in fresh("from segkd.models import create; create('light_fpn', num_classes=2)")


def seconds(code: str) -> float:
    """Processor time of a fresh interpreter, the least of three."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", ["import segkd.training.loop", "import segkd; segkd.train; import segkd.training.loop"]
)
def test_the_engine_costs_little_more_than_torch(code: str) -> None:
    assert seconds(code) < 1.3 * seconds("import torch")


@pytest.mark.slow
def test_imports_cost_little_more_than_torch() -> None:
    rooms = "import segkd.models, segkd.losses, segkd.datasets.loading, segkd.evaluation.scores, segkd.report.tables"
    made = "segkd.models.create('fast_scnn', num_classes=19); segkd.losses.create('cwd')"
    assert seconds(f"{rooms}\n{made}") < 1.3 * seconds("import torch")
