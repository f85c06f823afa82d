"""The file to ship: the most accurate within a time, or the fastest with a score, of all that a student can become."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segkd.datasets import SegmentationDataset
from segkd.datasets.base import RGB
from segkd.datasets.subset import Subset
from segkd.deploy.graphs import note_in
from segkd.errors import UserError
from segkd.evaluation.speed import compare_latency
from segkd.files import replacing
from segkd.training.build import build_dataset
from segkd.workbench import Progress, Row, silent
from segkd.workbench.candidates import Candidate, make_candidates, usable_ways
from segkd.workbench.scoring import Wanted, score_models

TRIES, RESULT = "tries.json", "ship.json"


@dataclass(frozen=True)
class Budget:
    """What is asked for: at most so many milliseconds an image, or at least so much mIoU (percent); one of both."""

    max_ms: float | None = None
    min_miou: float | None = None

    def __post_init__(self) -> None:
        if (self.max_ms is None) == (self.min_miou is None):
            raise UserError("say what is asked for: the most milliseconds of an image, or the least mIoU; one of both")

    def choose(self, rows: Sequence[Row]) -> Row:
        """The best row within the budget; if there is none, a UserError that says what comes nearest."""
        if self.max_ms is not None:
            fast = [row for row in rows if row["latency_ms"] <= self.max_ms]
            if not fast:
                nearest = min(rows, key=lambda row: float(row["latency_ms"]))
                raise UserError(
                    f"no file takes {self.max_ms:g} ms or less here; the fastest, {nearest['name']}, takes "
                    f"{nearest['latency_ms']:.1f} (mIoU {nearest['miou']:.2f}): allow more, or try smaller sizes"
                )
            return max(fast, key=lambda row: (float(row["miou"]), -float(row["latency_ms"])))
        assert self.min_miou is not None
        good = [row for row in rows if row["miou"] >= self.min_miou]
        if not good:
            nearest = max(rows, key=lambda row: float(row["miou"]))
            raise UserError(
                f"no file has an mIoU of {self.min_miou:g}; the best, {nearest['name']}, has {nearest['miou']:.2f} in "
                f"{nearest['latency_ms']:.1f} ms: ask for less, or train a better student"
            )
        return min(good, key=lambda row: (float(row["latency_ms"]), -float(row["miou"])))


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """The rows than which no other is both faster and better, the fastest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (float(row["latency_ms"]), -float(row["miou"]))):
        if not front or row["miou"] > front[-1]["miou"]:
            front.append(row)
    return front


@dataclass(frozen=True)
class Shipped:
    """What was chosen.

    Attributes:
        path: the file, in the folder.
        row: what is known of it: ``name``, ``size``, ``way``, ``tail``, ``miou``, ``latency_ms``, ...
        rows: all tries, the fastest first.
        front: those than which no other is both faster and better.
        left_out: names of what the time did not suffice for.
    """

    path: Path
    row: Row
    rows: list[Row]
    front: list[Row]
    left_out: list[str]


def ship(
    cfg: Mapping[str, Any],
    weights: str | Path,
    folder: str | Path,
    sizes: Sequence[tuple[int, int]],
    budget: Budget,
    *,
    ways: Sequence[str] = (),
    split: str = "val",
    images: int | None = None,
    calibration: int = 16,
    threads: int = 2,
    repeats: int = 30,
    minutes: float | None = None,
    progress: Progress = silent,
) -> Shipped:
    """Make a student's files, score and time them here, and put the best within the budget into ``folder``.

    Started again on the same folder it goes on: files are made and scored once. Times are measured anew for each size,
    in turns.

    Args:
        cfg: the run's config; calibration images come from its training split.
        weights: the student's.
        sizes: of images (H, W), in the order in which they are tried.
        budget: what is asked for.
        ways: of `segkd.workbench.candidates.WAYS` those to try (default: all that this machine has).
        split, images: what labels are scored on: so many images of it, or all.
        calibration: images.
        minutes: begin with no further file after that.

    Raises:
        UserError: nothing is within the budget (the tries stay in the folder), no size, an unknown way.
    """
    if not sizes:
        raise UserError("name the sizes of images to try, (H, W) each")
    usable = usable_ways(ways)
    folder, began = Path(folder), time.monotonic()
    tries = folder / "tries"
    tries.mkdir(parents=True, exist_ok=True)
    scored = build_dataset(cfg, split)
    if scored.channels != RGB:
        raise UserError(
            f"images of {scored.channels} bands: ship's script is for RGB; take `segkd export` and `quantize`"
        )
    scored = scored if images is None or images >= len(scored) else Subset(scored, count=images)
    training = build_dataset(cfg, "train")
    known = _Known(tries / TRIES, _key(weights, split, len(scored), calibration))
    rows: list[Row] = []
    left_out: list[str] = []

    def late() -> bool:
        return minutes is not None and time.monotonic() - began > 60 * minutes

    for size in sizes:
        if late():
            left_out.append(f"{size[0]}x{size[1]}")
            continue
        progress(f"making files of {size[0]}x{size[1]}", 0, None)
        made = make_candidates(cfg, weights, size, training, tries, usable, images=calibration, threads=threads)
        own = list(_until(made, late, left_out))
        times = _times(own, threads, repeats, progress)
        for candidate in own:
            if late() and candidate.name not in known.scores:
                left_out.append(candidate.name)
                continue
            miou = known.score(candidate, scored, threads, progress)
            rows.append({**candidate.as_dict(), "miou": miou, **times[candidate.name]})
    if not rows:
        raise UserError(f"{minutes:g} minutes did not suffice for one file: allow more, or fewer images")
    rows.sort(key=lambda row: float(row["latency_ms"]))
    chosen = budget.choose(rows)
    source = tries / str(chosen["file"])
    path = folder / f"student{source.suffix}"
    for ending in {source.suffix, *([".bin"] if source.suffix == ".xml" else [])}:
        with replacing(path.with_suffix(ending)) as temporary:
            shutil.copyfile(source.with_suffix(ending), temporary)
            if ending == ".onnx":
                note_in(temporary, {"scores": {"split": split, "images": len(scored), "miou": chosen["miou"]}})
    return Shipped(path, chosen, rows, pareto_front(rows), left_out)


def _until(made: Iterator[Candidate], late: Callable[[], bool], left_out: list[str]) -> Iterator[Candidate]:
    """Candidates as long as there is time."""
    for candidate in made:
        yield candidate
        if late():
            left_out.append(f"more files of {candidate.size[0]}x{candidate.size[1]}")
            return


def _times(candidates: Sequence[Candidate], threads: int, repeats: int, progress: Progress) -> dict[str, Row]:
    """Milliseconds of one image to labels, taken in turns, and sizes of files."""
    runs, sizes = {}, {}
    for candidate in candidates:
        runtime = candidate.open(threads)
        sizes[candidate.name] = runtime.file_size
        runs[candidate.name] = partial(
            runtime.labels, torch.zeros(1, runtime.channels, *candidate.size, dtype=torch.uint8)
        )
    progress("timing", 0, None)
    found = compare_latency(runs, repeats=repeats)
    return {
        name: {"latency_ms": one.median_ms, "latency_min_ms": one.min_ms, "noisy": one.noisy, "file_bytes": sizes[name]}
        for name, one in found.items()
    }


def _key(weights: str | Path, split: str, images: int, calibration: int) -> str:
    """What scores depend on, beside the candidate."""
    content = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    return f"{content} {split} {images} {calibration}"


class _Known:
    """The scores of a folder's files, kept on disk."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.scores: dict[str, float] = {}
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["key"] != key:
                raise UserError(
                    f"{path.parent} holds tries of other weights, another split or number of images: remove it, or "
                    "name another folder"
                )
            self.scores = content["scores"]
        else:
            self._write()

    def score(self, candidate: Candidate, dataset: SegmentationDataset, threads: int, progress: Progress) -> float:
        """The mIoU of a candidate's labels, measured once."""
        if candidate.name not in self.scores:
            models = {candidate.name: candidate.open(threads)}
            (found,), _ = score_models(models, dataset, Wanted(), progress=progress)
            self.scores[candidate.name] = float(found.row["miou"])
            self._write()
        return self.scores[candidate.name]

    def _write(self) -> None:
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps({"key": self.key, "scores": self.scores}, indent=1), encoding="utf-8")
