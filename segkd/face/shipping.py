"""What is around a training, as functions: load, evaluate, bench, export, quantize, label, cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkd.errors import UserError
from segkd.face.run import Comparison, Run
from segkd.face.spelling import spelled

if TYPE_CHECKING:
    from segkd.deploy.onnx import ExportReport
    from segkd.deploy.report import QuantizeReport
    from segkd.deploy.runtimes import OnnxRuntime
    from segkd.models import Network
    from segkd.workbench.caching import Cached
    from segkd.workbench.labelling import Labelled

Size = tuple[int, int]
File = str | Path


@spelled
def load(source: Any, *, network: Any = None) -> Run | Network | OnnxRuntime:
    """What lies in a file: a run folder's Run, the network of student weights (.pth), an ONNX file that predicts.

    Args:
        source: run folder, weights file or ONNX file; or the name of a released network.
        network: a network as in ``train``, where the file is in no run folder, or the run's config could not hold it.
    """
    from segkd.face.opening import load_file
    from segkd.workbench.zoo import WEIGHTS, resolve_release

    return load_file(Path(resolve_release(source, WEIGHTS)), network)


@spelled
def evaluate(
    models: Any,
    *,
    data: Any = None,
    root: File | None = None,
    split: str = "val",
    size: Size | None = None,
    speed: bool = True,
    resize: bool = False,
    count_void: bool = False,
    void_output: bool = False,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    window: Size | None = None,
    stride: Size | None = None,
    metrics: Sequence[str] = (),
    interval: bool = False,
    out: File | None = None,
    worst: int = 8,
    threads: int = 2,
    progress: bool = True,
) -> Comparison:
    """Scores of models on a split, and their speed, side by side.

    Args:
        models: one, a list, or {name: model}: Runs, networks, what ``export`` and ``quantize`` gave, or files.
        data, root: data set, as in ``train``; by default that of the first Run.
        split: "train", "val" or "test".
        size: (H, W) to time at (default: the first image's).
        speed: measure it, too.
        resize: let ONNX files take images of other sizes, resized.
        count_void: count predictions on void pixels as false positives.
        void_output: the last output is void, and may win.
        flip, scales, window, stride: average over mirror images, sizes (factors), windows (H, W) moved by (H, W).
        metrics: names of what else to score by: "boundary_iou", "ece", ... (``segkd.evaluation.metric.METRICS``).
        interval: also 95 % intervals of mIoU over images, and of every two models' ``differences``.
        out: folder for confusion matrices, the scores of each image, and the ``worst`` images.
        worst: how many of them.
        threads: CPU threads.
    """
    from segkd.evaluation.looking import Views
    from segkd.evaluation.metric import check_names
    from segkd.face import opening
    from segkd.files import writable_folder
    from segkd.report.progress import following
    from segkd.report.scoring import write_scores
    from segkd.workbench.comparison import evaluate_in_detail, image_size
    from segkd.workbench.scoring import Wanted

    views, folder = Views(flip, scales, window, stride), None if out is None else writable_folder(out)
    drawn = 0 if folder is None else worst
    wanted = Wanted(views, check_names(metrics), count_void, void_output, interval, drawn)
    named = opening.runtimes(models, threads, resize)
    dataset, workers = opening.dataset_of(models, data, root, split)
    timed_at = (size or image_size(dataset)) if speed else None
    with following(shown=progress) as follow:
        found, differences = evaluate_in_detail(named, dataset, timed_at, wanted, workers, follow)
    if folder is not None:
        write_scores(folder, found, dataset.class_names, dataset.palette)
    return Comparison([one.row for one in found], differences)


@spelled
def bench(
    models: Any,
    *,
    size: Size | None = None,
    batch: int | Sequence[int] = 1,
    repeats: int = 50,
    threads: int | Sequence[int] = 2,
    progress: bool = True,
) -> Comparison:
    """Latency, frames per second, parameters, MACs and memory of models, timed in turns, each in its own process.

    Args:
        models: as in ``evaluate``.
        size: (H, W) of the images; by default the ONNX files', else the first Run's training crops.
        batch: images per call; of several numbers the first, and ``scaling`` of the result has all.
        repeats: timed calls of each.
        threads: CPU threads; several as for ``batch``.

    Returns:
        A row for each model; that of one whose process ended has ``crashed``, what happened, in place of times.
    """
    from segkd.face import opening
    from segkd.report.progress import following
    from segkd.workbench.bench import bench_apart

    batches, counts = ((one,) if isinstance(one, int) else tuple(one) for one in (batch, threads))
    with following(shown=progress) as follow:
        found = bench_apart(
            lambda count: opening.sources(models, count), size, lambda: opening.crop_of(models), batches=batches,
            threads=counts, repeats=repeats, progress=follow,
        )  # fmt: skip
    return Comparison(found.rows, scaling=found.scaling)


@spelled
def export(
    model: Any,
    *,
    size: Size | None = None,
    out: File | None = None,
    output: str = "logits",
    tail: str = "auto",
    data: Any = None,
    root: File | None = None,
    split: str = "val",
    images: int | None = None,
    any_size: bool = False,
    batch: int | None = None,
    opset: int = 20,
    preprocess: bool = True,
    merge: bool = True,
    threads: int = 2,
    progress: bool = True,
) -> ExportReport:
    """Write a network as one ONNX file for one image size, refused unless it computes what torch does.

    Args:
        model: a Run, a run folder or weights file in it, or a network.
        size: (H, W) of the images; by default the run's training crops.
        out: the file; by default in the run folder, named by the size.
        output: "logits" (N, K, H, W), or "labels" (N, H, W) uint8.
        tail: of labels, where they are taken: "full", "half", "quarter", "native", or "auto", the fastest within 0.1
            mIoU of "full" on the data.
        data, root, split, images: on what tails are scored, by default the Run's validation split, all images of it.
        any_size: images of any size, where the network allows it exactly.
        batch: images per call; by default any number.
        opset: of ONNX, 18 to 23.
        preprocess: the file takes uint8 RGB images; else images already preprocessed.
        merge: merge branches of the training into one convolution first.
        threads: CPU threads.

    Returns:
        A report whose ``path`` is the file.
    """
    from segkd.face import opening
    from segkd.report.progress import following

    options = dict(include_preprocess=preprocess, any_size=any_size, batch=batch, opset=opset, merge=merge)
    with following(shown=progress) as follow:
        follow("exporting", 0, None)
        if output == "logits":
            return opening.export_any(model, size, out, **options)
        dataset = opening.dataset_of(model, data, root, split)[0] if tail == "auto" else None
        scored = dict(dataset=dataset, images=images, threads=threads, progress=follow)
        return opening.export_labels(model, size, out, output, tail, scored, options)


@spelled
def quantize(
    model: Any,
    *,
    data: Any = None,
    root: File | None = None,
    out: File | None = None,
    images: int = 16,
    route: str = "onnxruntime",
    ops: str | None = None,
    method: str | None = None,
    preset: str | None = None,
    weight_bits: int | None = None,
    keep_float: Sequence[str] = (),
    improve: Sequence[str] = (),
    size: Size | None = None,
    threads: int = 2,
    progress: bool = True,
) -> QuantizeReport:
    """Make an int8 file, calibrated on images spread over the training split.

    Args:
        model: a float32 ONNX file, or what ``export`` gave; or a Run, which is exported first. For "executorch" a Run,
            weights in a run folder, or a network.
        data, root: data set, as in ``train``; by default that of the Run.
        out: the file; by default beside the float32 file, ..._int8.onnx.
        images: calibration images.
        route: for what: "onnxruntime", "openvino" (.xml, by NNCF), "tensorrt" or, for phones, "executorch" (.pte).
        ops: "all" (default; not of "tensorrt") or "conv": what to quantise.
        method: "percentile" (default), "minmax", "moving_average" or "entropy"; not of "openvino".
        preset: of "openvino": "mixed" (default) or "performance".
        weight_bits: of "onnxruntime": 7 (default), right on every CPU, or 8, for x64 with VNNI and Arm; the sums of
            others saturate.
        keep_float: names of nodes of the graph that stay float.
        improve: for accuracy, of "equalize", "bias", "adaround" any; not of "openvino".
        size: of "executorch": (H, W) of the images; by default the run's training crops.
        threads: CPU threads.

    Returns:
        A report whose ``path`` is the file.
    """
    from segkd.face import opening
    from segkd.report.progress import following
    from segkd.workbench.deployment import quantize_file

    dataset, _ = opening.dataset_of(model, data, root, "train")
    with following(shown=progress) as follow:
        follow("quantising", 0, None)
        if route == "executorch":
            others = dict(method=method, preset=preset, weight_bits=weight_bits, keep_float=keep_float, improve=improve)
            if given := next((name for name, value in others.items() if value), None):
                raise UserError(f"{given} is not for the route executorch, which makes its file of weights")
            shared: Any = dict(op_types=ops, images=images, threads=threads)
            return opening.quantize_for_phones(model, dataset, size, out, **shared)
        source = opening.onnx_file(model)
        return quantize_file(
            source, dataset, out, images=images, route=route, threads=threads, op_types=ops, method=method,
            preset=preset, weight_bits=weight_bits, keep_float=keep_float, improve=improve,
        )  # fmt: skip


@spelled
def cache(
    student: Any,
    teacher: Any,
    *,
    out: File,
    recipe: File | None = None,
    binds: Any = None,
    data: Any = None,
    root: File | None = None,
    unlabelled: Any = None,
    kind: str = "float16",
    top: int = 0,
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> Cached:
    """Keep what a distillation needs of its teacher, for all training images; the folder is then its teacher.

    Args:
        student, teacher, recipe, binds, data, root, unlabelled, config, overrides: as in ``segkd.distill``.
        out: folder; ``segkd.distill(student, out, ...)`` with the rest unchanged trains on it.
        kind: "float16", or "uint8", half as large.
        top: of the logits, keep so many classes, the likeliest (0: all).
        progress: show how it goes.
    """
    from segkd.face.composing import distillation_config
    from segkd.report.progress import following
    from segkd.workbench.caching import cache_answers

    cfg = distillation_config(
        student, teacher, recipe=recipe, binds=binds, data=data, root=root, config=config, overrides=overrides,
        words=dict(unlabelled=unlabelled),
    )  # fmt: skip
    with following(shown=progress) as follow:
        return cache_answers(cfg, out, kind=kind, top=top, progress=follow)


@spelled
def label(
    teacher: Any,
    images: File,
    *,
    out: File,
    min_confidence: float = 0.0,
    top: int = 0,
    stride: int = 4,
    upright: bool = True,
    white: float | None = None,
    progress: bool = True,
) -> Labelled:
    """Write a teacher's answers for a folder of images, as label maps; ``data=OUT`` trains on them.

    Args:
        teacher: a Run, a network, or what ``segkd.distill`` takes by name.
        images: folder of the images.
        out: folder of what ``segkd.workbench.labelling.label_images`` writes, ``pairs.csv`` among it.
        min_confidence: pixels of which the teacher is less sure are void.
        top: also write the ``top`` likeliest classes with their probabilities.
        stride: side of their cells, in pixels.
        upright, white: turn images as their tags say; the value that is white in those of more than 8 bits.
        progress: show how it goes.
    """
    from segkd.report.progress import following
    from segkd.workbench.labelling import label_images, open_named_teacher

    source = teacher.folder if isinstance(teacher, Run) else teacher
    about = {"teacher": type(source).__name__ if hasattr(source, "parameters") else str(source)}
    with following(shown=progress) as follow:
        return label_images(
            open_named_teacher(source), images, out, min_confidence=min_confidence, top=top, stride=stride,
            upright=upright, white=white, about=about, progress=follow,
        )  # fmt: skip
