"""The file for phones: made, run here, and held against torch; in a process of its own, as it brings libraries."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from pyramid_net import CLASSES, SIZE, PyramidNet

from segkd.deploy.formats import open_file
from segkd.deploy.parity import random_images
from segkd.deploy.routes import find_route
from segkd.errors import UserError
from segkd.models.base import Preprocess


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: PyramidNet) -> None:
    from segkd.deploy.quantize_executorch import quantize_executorch

    for name in [name for name in sys.modules if name.startswith("executorch")] + ["executorch"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"^executorch is not installed: pip install 'segkd\[executorch\]'$"):
        quantize_executorch(net, tmp_path / "net.pte", SIZE, [random_images(1, SIZE)])
    (tmp_path / "net.pte").write_bytes(b"")
    with pytest.raises(UserError, match=r"^executorch is not installed"):
        open_file(tmp_path / "net.pte")
    with pytest.raises(UserError, match="did you mean 'executorch'"):
        find_route("executorh")


@pytest.mark.alone
def test_int8(net: PyramidNet, tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="the extra executorch is not installed")
    from segkd.deploy.quantize_executorch import quantize_executorch

    path = tmp_path / "net.pte"
    before = {name: value.clone() for name, value in net.state_dict().items()}
    report = quantize_executorch(
        net, path, SIZE, [random_images(4, SIZE)], class_names=CLASSES, extra={"palette": [[9, 8, 7]]}
    )  # fmt: skip
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert (report.route, report.images, report.int8_bytes) == ("executorch", 4, path.stat().st_size)
    assert report.sqnr_db is not None
    assert report.sqnr_db > 15
    assert report.argmax_agreement > 0.95
    assert report.int8_ops >= 3
    runtime = open_file(path, threads=1)
    assert runtime.name == "executorch"
    assert (runtime.size, runtime.num_classes) == (SIZE, len(CLASSES))
    assert runtime.metadata["class_names"] == list(CLASSES)
    assert runtime.metadata["palette"] == [[9, 8, 7]]
    assert runtime.metadata["quantization"]["route"] == "executorch"
    json.dumps(dict(runtime.metadata))
    image = random_images(3, SIZE, seed=7)
    with torch.no_grad():
        expected = net.eval().predict(image)
    same = runtime.labels(image) == expected.argmax(1)
    assert float(same.double().mean()) > 0.95
    other = runtime.again()
    assert torch.equal(runtime.predict(image)[1:2], other.predict(image[1:2]))  # it still runs beside another
    with pytest.raises(UserError, match=r"cannot have 2 threads: .* in this process have 1; take as many, or another"):
        open_file(path, threads=2)
    del runtime, other
    runtime = open_file(path, threads=2)
    assert float((runtime.labels(image) == expected.argmax(1)).double().mean()) > 0.95
    with pytest.raises(UserError, match="the file takes images of"):
        runtime.labels(random_images(1, (64, 64)))


@pytest.mark.alone
def test_small_values_are_rounded_by_small_steps(net: PyramidNet, tmp_path: Path) -> None:
    """The published ESPNet's input is below 0.014: of steps of 2**-12 few are left of it, of its factors none."""
    pytest.importorskip("executorch", reason="the extra executorch is not installed")
    from segkd.deploy.quantize_executorch import quantize_executorch

    small = PyramidNet()
    small.load_state_dict(net.state_dict())
    small.preprocess = Preprocess(channels="BGR", mean=(0.3, 0.4, 0.5), std=(200.0, 250.0, 300.0))
    with torch.no_grad():
        small.stem[0].weight *= 1000
    for op_types in ("all", "conv"):
        report = quantize_executorch(
            small.eval(), tmp_path / "net.pte", SIZE, [random_images(4, SIZE)], op_types=op_types
        )
        assert report.op_types == op_types
        assert report.argmax_agreement > 0.95
        assert report.int8_ops >= 3
        assert report.ops.get("quantize_per_tensor", 0) > 0


@pytest.mark.alone
def test_mistakes(net: PyramidNet, tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="the extra executorch is not installed")
    from segkd.deploy.quantize_executorch import quantize_executorch

    with pytest.raises(UserError, match="quantisation needs calibration images"):
        quantize_executorch(net, tmp_path / "net.pte", SIZE, [])
    with pytest.raises(UserError, match="calibration images must be uint8 of"):
        quantize_executorch(net, tmp_path / "net.pte", SIZE, [random_images(1, (64, 64))])
    with pytest.raises(UserError, match="unknown op_types 'sums' of executorch; choose from all, conv"):
        quantize_executorch(net, tmp_path / "net.pte", SIZE, [random_images(1, SIZE)], op_types="sums")
    (tmp_path / "bad.pte").write_bytes(b"no program at all, but long enough to be looked at")
    with pytest.raises(UserError, match=r"ExecuTorch cannot read .*bad\.pte"):
        open_file(tmp_path / "bad.pte")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pte"]
