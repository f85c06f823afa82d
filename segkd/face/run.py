"""What the functions of ``import segkd`` give back: a run, and a comparison of models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segkd.deploy.onnx import ExportReport
    from segkd.deploy.report import QuantizeReport
    from segkd.models import Network


@dataclass(eq=False, repr=False)
class Run:
    """A training and its folder.

    Attributes:
        folder: where its files are.
        config: what it was trained by, with the objects that were given.
    """

    folder: Path
    config: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` says of a finished run; empty before."""
        file = self.folder / "metrics.json"
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of its log: losses, gradients, and the scores of each validation (``"val"``), by step."""
        file = self.folder / "log.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []

    def weights(self, which: str = "best") -> Path:
        """The file of the student's weights: the "best" on validation, or the "last"."""
        return self.folder / f"student_{which}.pth"

    @cached_property
    def student(self) -> Network:
        """The trained network with its best weights, in eval mode."""
        from segkd.workbench.runs import load_student

        return load_student(self.config, self.weights())

    def export(self, **options: Any) -> ExportReport:
        """Its student as ONNX, see ``segkd.export``."""
        from segkd.face.shipping import export

        return export(self, **options)

    def quantize(self, onnx: Any = None, **options: Any) -> QuantizeReport:
        """An int8 file of what ``export`` gave (exported now if nothing is named), see ``segkd.quantize``."""
        from segkd.face.shipping import quantize

        return quantize(self if onnx is None else onnx, **{"data": self, **options})

    def evaluate(self, **options: Any) -> Comparison:
        """Its scores and speed, see ``segkd.evaluate``."""
        from segkd.face.shipping import evaluate

        return evaluate(self, **options)

    def predict(self, images: Any, **options: Any) -> Any:
        """What its student sees, see ``segkd.predict``."""
        from segkd.face.predicting import predict

        return predict(images, model=self, **options)

    def __repr__(self) -> str:
        found = self.metrics
        if not found:
            return f"Run({str(self.folder)!r}, not finished)"
        best = found["val_best"] or {}
        scores = ", ".join(f"val {name} {best[name]:.2f}" for name in best if name != "step")
        return f"Run({str(self.folder)!r}, {found['steps']} steps, {scores} at step {best.get('step')})"


@dataclass(eq=False, repr=False)
class Comparison(Mapping[str, dict[str, Any]]):
    """Models side by side; printed, it is a table. By name, it gives a model's row.

    Attributes:
        rows: a dict for each model: ``name`` and what was measured (``miou`` in percent, ``latency_ms``, ...).
        differences: of every two models, where intervals were asked for: ``name``, ``base``, ``gain`` in points of
            mIoU, ``low``, ``high``, ``verdict``.
        scaling: of ``segkd.bench`` with several batches or numbers of threads, a row for each of them.
    """

    rows: list[dict[str, Any]]
    differences: list[dict[str, Any]] = field(default_factory=list)
    scaling: list[dict[str, Any]] = field(default_factory=list)

    @property
    def miou(self) -> dict[str, float]:
        """The mean IoU of each model, in percent."""
        return {row["name"]: row["miou"] for row in self.rows if "miou" in row}

    def __getitem__(self, name: str) -> dict[str, Any]:
        return {row["name"]: row for row in self.rows}[name]

    def __iter__(self) -> Iterator[str]:
        return iter(row["name"] for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        from segkd.report.scoring import difference_lines
        from segkd.report.tables import as_text, comparison_table, scaling_table

        rows = [row for row in self.rows if "crashed" not in row]
        tables = [as_text(comparison_table(rows))] if rows else []
        tables += [as_text(scaling_table(self.scaling))] if self.scaling else []
        crashed = [f"{row['name']}: {row['crashed']}" for row in self.rows if "crashed" in row]
        return "\n".join([*tables, *crashed, *difference_lines(self.differences)])
