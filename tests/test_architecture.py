"""The design's rules, read from the source: who may import whom, sizes, and what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "segkd"

# Room (a file or a folder of segkd/) -> what of segkd it may import besides itself and COMMON. "models" is what the
# package segkd.models itself offers, "models.base" that file, "models.*" all its files, "*" everything.
COMMON = {"", "errors", "arguments", "registry", "files"}  # "" is `import segkd`, for its version
ROOMS: dict[str, set[str]] = {
    "": {"face.*", "binding", "distiller", "segmentor", "taps"},  # segkd/__init__.py
    "errors": set(),
    "arguments": set(),
    "registry": set(),
    "files": set(),
    "memory": {"images"},
    "views": set(),
    "images": set(),
    "losses": set(),
    "connectors": set(),
    "weight_schedule": set(),
    "taps": set(),
    "inspection": {"taps"},
    "roles": {"taps"},
    "fakequant": set(),
    "models": {"images", "fakequant", "fakequant.*"},
    "datasets": {"views", "images"},
    "deploy": {"images", "fakequant", "fakequant.*"},
    "evaluation": {"images"},
    "report": {"evaluation.*"},
    "supervision": {"taps"},
    "meeting": set(),
    "binding": {"taps", "roles", "meeting", "connectors", "losses", "losses.base", "weight_schedule"},
    "segmentor": {"taps", "supervision", "models", "models.base"},
    "distiller": {"taps", "supervision", "models", "models.base", "segmentor", "binding", "meeting", "views"},
    "training": {"memory", "taps", "meeting", "weight_schedule", "supervision", "segmentor", "distiller", "binding"}
    | {"datasets.*", "evaluation.*", "models.*", "report.*", "fakequant"}
    | {"deploy.places", "deploy.routes"},  # an int8 file's rounding; else not what ships, nor the command line
    "workbench": {
        "training.*",
        "deploy.*",
        "evaluation.*",
        "models.*",
        "datasets.*",
        "distiller",
        "segmentor",
        "inspection",
        "roles",
        "weight_schedule",
        "memory",
        "binding",
        "losses",
        "supervision",
        "taps",
        "teachers",
        "views",
        "images",
        "report.pictures",  # arrays -> files, without a terminal
        "report.legends",
    },
    "face": {"workbench.*", "training.*", "report.*", "deploy.*", "models.*", "datasets.*", "evaluation.*"},
    "cli": {"workbench.*", "training.*", "report.*"},
    "teachers": {"models.*", "deploy.runtimes", "training.configfile", "training.build", "datasets.answers", "views"},
    "__main__": {"cli.*"},
}
MMENGINE = {"training"}
ISOLATED = ["losses", "connectors", "taps", "supervision", "inspection", "roles", "models", "datasets", "evaluation"]
ISOLATED += ["fakequant", "deploy", "report", "binding", "segmentor", "distiller", "teachers"]
MAX_LINES = 350
MAY_PRINT = {"cli", "report"}  # and make tables and bars for a terminal (rich)


class Import(NamedTuple):
    """One imported module, by its full name, and where."""

    module: str
    line: int


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path, root: Path = ROOT) -> str:
    """segkd/models/base.py -> segkd.models.base, segkd/models/__init__.py -> segkd.models."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.Module, package: str, modules: set[str]) -> Iterator[Import]:
    """Every import anywhere in a file (functions and TYPE_CHECKING blocks too) that lies in ``package``.

    ``from a import b`` is an import of ``a.b`` where that is one of ``modules``, else of ``a``.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(inner if inner in modules else base, node.lineno)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__") and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield Import(first.value, node.lineno)


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def complaint(importer: str, module: str) -> str | None:
    """What is wrong with ``importer`` (without ``segkd.``) importing ``module`` (a full name), or None."""
    top, _, inner = module.partition(".")
    if top in ("tools", "configs", "tests"):
        return f"segkd never imports {top}"
    if top == "mmengine" and not any(lies_in(importer, room) for room in MMENGINE):
        return f"mmengine is only for {', '.join(sorted(MMENGINE))}"
    room = room_of(importer)
    if top == "rich" and room not in MAY_PRINT:
        return f"rich is only for {', '.join(sorted(MAY_PRINT))}"
    allowed = ROOMS.get(room, set())
    if top != "segkd" or lies_in(inner, room) or any(is_allowed(inner, entry) for entry in COMMON | allowed):
        return None
    return f"of segkd it may import {', '.join(sorted(allowed)) or 'nothing'}, besides its own room and errors"


def room_of(module: str) -> str:
    """models.base -> models."""
    return module.partition(".")[0]


def lies_in(module: str, room: str) -> bool:
    return f"{module}.".startswith(f"{room}.")


def is_allowed(module: str, entry: str) -> bool:
    return entry == "*" or (lies_in(module, entry[:-2]) if entry.endswith(".*") else module == entry)


def violations(sources_by_module: dict[str, str]) -> list[str]:
    """Forbidden imports of a package given as {full module name: source text}."""
    found = []
    for name, text in sources_by_module.items():
        inner = name.partition(".")[2]
        is_package = any(other.startswith(f"{name}.") for other in sources_by_module)
        package = name if is_package else name.rpartition(".")[0]
        for imported in imports_of(ast.parse(text), package, set(sources_by_module)):
            problem = complaint(inner, imported.module)
            if problem:
                found.append(f"{name}:{imported.line} imports {imported.module}: {problem}")
    return found


def test_every_file_lies_in_a_known_room() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in sources(PACKAGE)}
    assert rooms - {"__init__"} - set(ROOMS) == set(), "add the room to ROOMS, and to the design"


def test_no_room_imports_what_it_must_not() -> None:
    found = violations({module_name(path): path.read_text(encoding="utf-8") for path in sources(PACKAGE)})
    assert found == [], "\n".join(found)


@pytest.mark.parametrize(
    ("module", "line", "forbidden"),
    [
        ("segkd.losses.kd", "from segkd.models import Network", True),
        ("segkd.losses.kd", "from segkd.losses.base import LOSSES", False),
        ("segkd.losses.kd", "from .base import LOSSES", False),
        ("segkd.losses.kd", "from ..taps import tap", True),
        ("segkd.losses.kd", "from .. import taps", True),
        ("segkd.losses.kd", "def f():\n    import mmengine.runner", True),
        ("segkd.losses.kd", "import importlib\nimportlib.import_module('mmengine')", True),
        ("segkd.losses.kd", "import torch, segkd.errors", False),
        ("segkd.losses", "from .kd import x", False),
        ("segkd", "from segkd.losses import LOSSES", True),
        ("segkd.taps", "from segkd.connectors import x", True),
        ("segkd.models.base", "from segkd import taps", True),
        ("segkd.models.base", "from segkd import __version__", False),
        ("segkd.binding", "from segkd.losses import LOSSES", False),
        ("segkd.binding", "from segkd.losses.kd import KD", True),
        ("segkd.binding", "from segkd.models.base import Network", True),
        ("segkd.distiller", "from segkd.models import NETWORKS", False),
        ("segkd.distiller", "from segkd.models import smp", True),
        ("segkd.segmentor", "from segkd.binding import Bind", True),
        ("segkd.segmentor", "from mmengine.model import BaseModel", True),
        ("segkd.report.table", "from segkd.evaluation.scores import Scores", False),
        ("segkd.report.table", "from segkd.datasets import DATASETS", True),
        ("segkd.evaluation.miou", "import mmengine", True),
        ("segkd.evaluation.miou", "from segkd.evaluation.scores import Scores", False),
        ("segkd.evaluation.speed", "import mmengine", True),
        ("segkd.training.hooks", "from mmengine.hooks import Hook", False),
        ("segkd.training.hooks", "from segkd.cli.main import main", True),
        ("segkd.cli.main", "from segkd.deploy.onnx import export", True),
        ("segkd.cli.main", "from segkd.workbench.deployment import export_run", False),
        ("segkd.cli.main", "import mmengine", True),
        ("segkd.workbench.runs", "from segkd.deploy.onnx import export_onnx", False),
        ("segkd.workbench.runs", "from segkd.cli.common import say", True),
        ("segkd.workbench.runs", "from segkd.report.tables import comparison_table", True),
        ("segkd.workbench.runs", "from rich.table import Table", True),
        ("segkd.training.loop", "from segkd.workbench.runs import open_run", True),
        ("segkd.report.table", "from rich.table import Table", False),
        ("segkd.cli.main", "import tools.x", True),
        ("segkd.cli.main", "from configs.students import x", True),
    ],
)
def test_the_rule_itself(module: str, line: str, forbidden: bool) -> None:
    every = ["losses", "losses.base", "losses.kd", "taps", "connectors", "models", "models.base", "models.smp"]
    package = {f"segkd.{name}": "" for name in every} | {"segkd": "", module: line}
    assert bool(violations(package)) is forbidden


def test_configs_and_tools_import_neither_tests_nor_one_another() -> None:
    found = []
    for folder, banned in (("configs", {"tests", "tools"}), ("tools", {"tests", "configs"})):
        for path in sources(ROOT / folder):
            for imported in imports_of(ast.parse(path.read_text(encoding="utf-8")), module_name(path.parent), set()):
                if imported.module.partition(".")[0] in banned:
                    found.append(f"{path.relative_to(ROOT)}:{imported.line} imports {imported.module}")
    assert found == []


def test_isolated_rooms_run_without_mmengine() -> None:
    """Not even through something they import: all their files are imported where mmengine cannot be."""
    rooms = [f"segkd.{room}" for room in ISOLATED]
    names = [n for n in map(module_name, sources(PACKAGE)) if any(lies_in(n, room) for room in rooms)]
    code = (
        "import sys, importlib\nsys.modules['mmengine'] = None\nfor name in sys.argv[1:]: importlib.import_module(name)"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("folder", ["models", "datasets"])
def test_data_folders_are_no_packages(folder: str) -> None:
    """A root on sys.path would let them shadow other packages of those names."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_files_are_short() -> None:
    lines = {module_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(PACKAGE)}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def bad_habits(tree: ast.Module, may_print: bool) -> Iterator[str]:
    """print outside the rooms that talk to a user, and exceptions that are swallowed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print" and not may_print:
            yield f"{node.lineno}: print"
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield f"{node.lineno}: bare except"
            if all(isinstance(s, ast.Pass) or (isinstance(s, ast.Expr) and _is_ellipsis(s.value)) for s in node.body):
                yield f"{node.lineno}: except with nothing but pass"


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis


def test_no_print_and_no_swallowed_exceptions() -> None:
    found = []
    for path in sources(PACKAGE):
        name = module_name(path)
        may_print = room_of(name.partition(".")[2]) in MAY_PRINT
        found += [f"{name}:{habit}" for habit in bad_habits(ast.parse(path.read_text(encoding="utf-8")), may_print)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("print(1)", 1),
        ("try:\n    f()\nexcept:\n    raise", 1),
        ("try:\n    f()\nexcept ValueError:\n    pass", 1),
        ("try:\n    f()\nexcept ValueError:\n    ...", 1),
        ("try:\n    f()\nexcept ValueError as e:\n    raise KeyError from e", 0),
        ("console.print(1)", 0),
    ],
)
def test_the_habits_are_found(text: str, count: int) -> None:
    assert len(list(bad_habits(ast.parse(text), may_print=False))) == count


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip(f"git ls-files: {listed.stderr.decode().strip()}")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_holds_a_machine_path() -> None:
    machine_path = re.compile(rb"(?<![\w.])/(?:home|root)/[A-Za-z]")
    assert machine_path.search(b"open('/" + b"home/me')")
    found = [str(path.relative_to(ROOT)) for path in tracked_files() if machine_path.search(path.read_bytes())]
    assert found == []
