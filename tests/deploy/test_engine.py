"""TensorRT engines: what is asked of TensorRT, which a stand-in with its names writes down, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from pyramid_net import SIZE

from segkd.deploy.engine import build_engine
from segkd.deploy.parity import random_images
from segkd.deploy.quantize import quantize_onnx
from segkd.deploy.tensorrt import quantize_tensorrt
from segkd.errors import UserError

ROOT = Path(__file__).parents[2]


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2


class Calls:
    """What a stand-in was asked for, in order."""

    def __init__(self, **gives: Any) -> None:
        self.made: list[tuple[str, tuple[Any, ...]]] = []
        self.gives = gives

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.made.append((name, arguments))
            return self.gives.get(name)

        return call


def stand_in(version: str = "10.14", plan: bytes | None = b"plan", readable: bool = True) -> Any:
    """A module with TensorRT's names (as of its Python documentation)."""

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = Severity

        def log(self, severity: Severity, text: str) -> None: ...

    config, profile = Calls(), Calls()
    flags = SimpleNamespace(INT8="int8", FP16="fp16") if version < "11" else SimpleNamespace()
    trt = SimpleNamespace(__version__=version, ILogger=ILogger, BuilderFlag=flags, config=config, profile=profile)
    trt.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    class Builder(Calls):
        def __init__(self, logger: Any) -> None:
            made = {"create_builder_config": config, "create_optimization_profile": profile}
            super().__init__(create_network="network", **made)
            self.logger = logger

        def build_serialized_network(self, network: str, given: Any) -> bytes | None:
            assert (network, given) == ("network", config)
            self.logger.log(Severity.WARNING, "a warning")
            self.logger.log(Severity.ERROR, "no kernel\nfor this")
            return plan

    trt.Builder = Builder
    trt.OnnxParser = lambda network, logger: Calls(
        parse_from_file=readable, get_error=SimpleNamespace(desc=lambda: "no such operator\nat node 3")
    )
    return trt


@pytest.fixture
def int8(exported: Path, tmp_path: Path) -> Path:
    quantize_tensorrt(exported, tmp_path / "int8.onnx", [random_images(1, SIZE)], max_images=1)
    return tmp_path / "int8.onnx"


def test_an_int8_engine(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = stand_in()
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    found = build_engine(int8, batch=4, workspace_mib=3)
    assert Path(found.path) == int8.with_suffix(".engine")
    assert Path(found.path).read_bytes() == b"plan"
    assert found[1:] == ("10.14", (1, 1, 4), True, 4)
    shapes = [(count, 3, *SIZE) for count in (1, 1, 4)]
    assert trt.profile.made == [("set_shape", ("image", *shapes))]
    assert trt.config.made == [
        ("set_memory_pool_limit", ("workspace", 3 * 2**20)),
        ("set_flag", ("int8",)),
        ("set_flag", ("fp16",)),
        ("add_optimization_profile", (trt.profile,)),
    ]


def test_a_float_engine_and_later_versions(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, flags in (("10.14", []), ("11.1", [])):
        trt = stand_in(version)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        assert not build_engine(exported, tmp_path / "float.engine", half=False).int8
        assert [made for made in trt.config.made if made[0] == "set_flag"] == flags


def test_mistakes(int8: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.engine"
    for trt, told in (
        (stand_in(plan=None), "TensorRT built no engine of .*: no kernel$"),
        (stand_in(readable=False), "TensorRT cannot read .*: no such operator$"),
        (None, "tensorrt is not installed: pip install tensorrt"),
    ):
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        with pytest.raises(UserError, match=told):
            build_engine(int8, out)
    quantize_onnx(exported, tmp_path / "u8.onnx", [random_images(1, SIZE)])
    with pytest.raises(UserError, match=r"is not for TensorRT .*segkd quantize --route tensorrt makes one"):
        build_engine(tmp_path / "u8.onnx", out)
    foreign = onnx.load(str(exported))
    del foreign.metadata_props[:]
    onnx.save_model(foreign, str(tmp_path / "foreign.onnx"))
    with pytest.raises(UserError, match="was not written by segkd"):
        build_engine(tmp_path / "foreign.onnx", out)
    assert not out.exists()


def test_the_script_says_it_in_one_line(tmp_path: Path) -> None:
    words = [sys.executable, "tools/build_engine.py", str(tmp_path / "none.onnx")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"build_engine: error: no such ONNX file: {tmp_path / 'none.onnx'}"]
