"""Models timed against each other, each in a process of its own, and over batches and threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from segkd.deploy.peak import measure_peaks as measure_peaks
from segkd.deploy.runtimes import Runtime
from segkd.workbench import Progress, Row, silent
from segkd.workbench.isolation import Opener, Processes
from segkd.workbench.timing import Size, common_size, operators_of, time_models, time_scaling

Sources = Mapping[str, Opener | Runtime]


class Bench(NamedTuple):
    """What was measured.

    Attributes:
        size: (H, W) of the images.
        rows: of `segkd.workbench.timing.time_models`, with the first batch and number of threads; of a model that
            crashed ``name`` and ``crashed``.
        scaling: of `segkd.workbench.timing.time_scaling`; empty for one batch and number of threads.
        operators: of each ONNX file, if asked for.
        crashed: what happened, by name.
        shared: names of models that were timed in the calling process, as no other one knows their class.
    """

    size: Size
    rows: list[Row]
    scaling: list[Row]
    operators: dict[str, dict[str, float]]
    crashed: dict[str, str]
    shared: list[str]

    @property
    def failure(self) -> str:
        """A line that names each model that crashed; empty if none did."""
        told = ", ".join(f"{name}: {reason}" for name, reason in self.crashed.items())
        count = len(self.rows)
        return f"{len(self.crashed)} of {count} models could not be timed: {told}" if told else ""


def bench_apart(
    sources: Callable[[int], Sources],
    size: Size | None,
    default_size: Callable[[], Size],
    *,
    batches: Sequence[int] = (1,),
    threads: Sequence[int] = (2,),
    repeats: int = 50,
    operators: bool = False,
    progress: Progress = silent,
) -> Bench:
    """Time models in turns, each in its own process, so that a crash or a thread pool of one spoils no other.

    Args:
        sources: what opens each model, or a runtime that is sent, for a number of threads.
        size: (H, W) of the images; by default the one that files are for, else ``default_size``.
        batches, threads: images per call, CPU threads; with several, all are also timed against each other.
        repeats: timed calls of each, 2 or more.
        operators: say which operators of ONNX files take the time.
    """
    repeats = max(repeats, 2)
    with Processes() as own:
        progress("opening models", 0, None)
        models = own.open_all(sources(threads[0]))
        found = common_size(models, size) or default_size()
        rows = time_models(models, found, batches[0], repeats, progress)
        for row in rows:
            if "crashed" in row:
                own.crashed[str(row["name"])] = str(row["crashed"])
        models = {name: model for name, model in models.items() if name not in own.crashed}
        scaling: list[Row] = []
        if len(batches) * len(threads) > 1:
            scaling = time_scaling(_for_threads(own, models, sources, threads), found, batches, repeats, progress)
            own.crashed |= {str(row["name"]): str(row["crashed"]) for row in scaling if "crashed" in row}
            scaling = [row for row in scaling if "crashed" not in row]
        shares = operators_of(models, found, batches[0]) if operators else {}
        known = {str(row["name"]) for row in rows}
        rows += [{"name": name, "crashed": why} for name, why in own.crashed.items() if name not in known]
        return Bench(found, rows, scaling, shares, dict(own.crashed), list(dict.fromkeys(own.shared)))


def _for_threads(
    own: Processes, models: Mapping[str, Runtime], sources: Callable[[int], Sources], threads: Sequence[int]
) -> dict[tuple[str, int], Runtime]:
    """Each model with each number of threads, in a process of its own: a library may have one pool of them for all."""
    found = {(name, threads[0]): model for name, model in models.items()}
    for count in threads[1:]:
        for name, source in sources(count).items():
            if name in models and (other := own.open(name, source)) is not None:
                found[name, count] = other
    return dict(sorted(found.items(), key=lambda item: list(models).index(item[0][0])))
