"""Every network at the sizes people use, and its ONNX files: ``make test-full``, whose results are committed."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import CLASSES, RESULTS, build, image, results, settled
from published import gmacs

from segkd.deploy.onnx import export_onnx
from segkd.models.catalogue import catalogue


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("label", list(catalogue()))
def test_network(label: str, tmp_path: Path) -> None:
    row: dict[str, Any] = count(label)
    network = build(label).eval()
    for size in ((360, 480), (512, 1024)):
        with torch.no_grad():
            logits = network.predict(image(*size))
        assert logits.shape == (1, CLASSES, *size)
        assert logits.isfinite().all()
    network = settled(build(label))
    row["export"] = {}
    for size in ((120, 160), (192, 128)):
        report = export_onnx(network, tmp_path / "net.onnx", size)
        worst = max(report.parity, key=lambda p: p.relative_difference)
        row["export"][f"{size[0]}x{size[1]}"] = float(f"{worst.relative_difference:.1e}")
        if worst.rounding:  # what float32 alone does to these drawn weights
            row.setdefault("rounding", {})[f"{size[0]}x{size[1]}"] = float(f"{worst.rounding:.1e}")
    record(label, row)


def count(label: str) -> dict[str, Any]:
    """Parameters and GMACs at 19 classes."""
    network = catalogue()[label].on_meta(19)
    parameters = sum(p.numel() for p in network.parameters())
    return {
        "parameters": parameters,
        "gmacs_512x1024": round(gmacs(network, 512, 1024), 3),
        "gmacs_1024x2048": round(gmacs(network, 1024, 2048), 3),
    }


def record(label: str, row: dict[str, Any]) -> None:
    """With make test-full, write what was found."""
    if os.environ.get("SEGKD_RECORD"):
        content = {k: v for k, v in results().items() if k in catalogue()}
        content[label] = row | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(content[k])}" for k in sorted(content))
        RESULTS.write_text("{\n" + lines + "\n}\n")
