"""What a model sees in images and videos, from Python: ``segkd.predict``."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.errors import UserError
from segkd.face.run import Run
from segkd.face.spelling import spelled

if TYPE_CHECKING:
    from segkd.workbench.predicting import Predicted, Views
    from segkd.workbench.prediction import Prediction
    from segkd.workbench.predictors import Predictor

Size = tuple[int, int]
File = str | Path


@spelled
def predict(
    images: Any,
    *,
    model: Any = None,
    classes: Any = None,
    out: File | None = None,
    write: str | Sequence[str] = "overlay",
    alpha: float = 0.5,
    legend: str | None = None,
    json: File | None = None,
    force: bool = False,
    skip_done: bool = False,
    skip_bad: bool = False,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    window: Size | None = None,
    stride: Size | None = None,
    scores: bool = False,
    upright: bool = True,
    white: float | None = None,
    frames: int | None = None,
    fps: float | None = None,
    batch: int = 1,
    device: str | None = None,
    threads: int = 2,
    progress: bool = True,
) -> Any:
    """What a model sees: a Prediction (``label``, ``shares()``) of one image, an iterator of them of anything else.

    Args:
        images: an image of any size, as a file or as an array (H, W, 3) uint8 RGB; a folder (and those in it), a
            pattern, a list (.txt), a video, "camera:0"; or a list of these.
        model: a Run, network, ONNX file or what ``export`` and ``quantize`` gave, a run folder, weights in one, or the
            name of a released network, whose int8 file it is; by default "fast_scnn_camvid".
        classes: a data set, text file or list that names the classes, where the model doesn't.
        out: write results, to this file or folder; what comes back is then a ``Predicted``, when all is done.
        write: kinds of results: "overlay", "colours", "ids", "cityscapes", "soft"; "overlay,ids" or a list.
        alpha: weight of the colours.
        legend: "file" (a PNG) or "beside" (in the overlays).
        json: a file that takes the shares of the classes.
        force, skip_done: write over results that are there; or keep them.
        skip_bad: go on after what can't be read.
        flip, scales, window, stride: as of `segkd eval`: the mirror image, sizes, windows (H, W) and their stride.
        scores: predictions have the probabilities of all classes.
        upright, white: turn images as their tags say; the value that is white in those of more than 8 bits.
        frames, fps: of videos: at most so many; frames per second of what is written.
        batch: images of one size per call.
        device: "cpu", "cuda"; by default a GPU, for ONNX files the CPU.
        threads: CPU threads.
    """
    results = dict(write=write, alpha=alpha, legend=legend, json=json, force=force, skip_done=skip_done)
    opened = dict(model=model, device=device, threads=threads, classes=classes)
    from segkd.workbench.predicting import Views

    views = Views(flip, tuple(scales), window, stride)
    work: dict[str, Any] = dict(batch=batch, views=views, frames=frames, skip_bad=skip_bad)
    work |= dict(upright=upright, white=white)
    if out is not None:
        return _written(images, opened, results | {"out": out}, work | {"fps": fps}, progress)
    _refuse_without_out(results | {"fps": fps})
    return _seen(images, opened, scores, **work)


def _opened(model: Any, **words: Any) -> Predictor:
    """A predictor of what Python gives for a model."""
    from segkd.training.build import class_names
    from segkd.workbench.predictors import open_predictor

    if isinstance(model, Run):
        return open_predictor(model.student, said=class_names(model.config), **words)
    is_report = hasattr(model, "path") and not hasattr(model, "predict")
    return open_predictor(model.path if is_report else model, **words)


def _written(
    images: Any, opened: Mapping[str, Any], results: Mapping[str, Any], work: Mapping[str, Any], shown: bool
) -> Predicted:
    from segkd.report.progress import following
    from segkd.workbench.predicting import carry_out, plan

    planned = plan(images, **results)
    with following(shown=shown, unit="images") as follow:
        return carry_out(planned, _opened(**opened), progress=follow, **work)


def _refuse_without_out(results: Mapping[str, Any]) -> None:
    known = inspect.signature(predict).parameters
    for name, value in results.items():
        if value != known[name].default:
            raise UserError(f"{name}= is about what is written: say where to, out=")


def _seen(
    images: Any,
    opened: Mapping[str, Any],
    scores: bool,
    batch: int,
    views: Views,
    frames: int | None,
    skip_bad: bool,
    upright: bool,
    white: float | None,
) -> Prediction | Iterator[Prediction]:
    from segkd.workbench.prediction import segment
    from segkd.workbench.reading import Bad, read_ahead
    from segkd.workbench.sources import find_sources, is_one

    sources = find_sources(images)
    predictor = _opened(**opened)

    def found() -> Iterator[Prediction]:
        with closing(read_ahead(sources, frames, upright, white, predictor.runtime.channels)) as reads:
            for one in segment(predictor, reads, batch=batch, views=views, scores=scores):
                if not isinstance(one, Bad):
                    yield one.seen
                elif skip_bad:
                    warnings.warn(f"left out: {one.error}", stacklevel=2)
                else:
                    raise one.error

    return next(iter(list(found()))) if is_one(images, sources) else found()
