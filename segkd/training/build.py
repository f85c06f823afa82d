"""Objects from a config: data sets, loaders, the training model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segkd.datasets import DATASETS, SegmentationDataset
from segkd.datasets.answers import ABOUT, LABELLED, UNLABELLED, Answers
from segkd.datasets.base import Sample
from segkd.datasets.hearing import Hears, Recall, Whole
from segkd.datasets.image_cache import DEFAULT, Cached, ImageCache
from segkd.datasets.loading import Loader, eval_loader, train_loader
from segkd.datasets.tolerant import Tolerant
from segkd.datasets.transforms import TrainTransform
from segkd.datasets.unlabelled import Images, build_images
from segkd.errors import UserError
from segkd.models import NETWORKS, Network
from segkd.registry import build
from segkd.segmentor import TrainingModel
from segkd.training.config import Config
from segkd.training.labels import counted_once
from segkd.training.processes import rank, world_size
from segkd.training.values import CROP

SPLITS = ("train", "val", "test")


def build_dataset(cfg: Mapping[str, Any] | Config, split: str) -> SegmentationDataset:
    """The data set of one split: ``data.dataset`` with the arguments of ``data.<split>`` over it."""
    data = Config.of(cfg).data
    if split not in SPLITS:
        raise UserError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    own = getattr(data, split)
    if own is None:
        kind = data.dataset.get("type")
        if kind is not None and split in getattr(DATASETS.resolve(kind), "withheld", ()):
            raise UserError(f"the {split} labels of this data set are withheld by its owners: score on val")
        raise UserError(f"the config has no data.{split}, so there is nothing to read for that split")
    return DATASETS.build({**data.dataset, **own} if isinstance(own, Mapping) else own)


def build_model(cfg: Mapping[str, Any] | Config) -> TrainingModel:
    """The training model; torch's generator is seeded first, so equal seeds give bit-equal students in all arms."""
    cfg = Config.of(cfg)
    torch.manual_seed(cfg.seed)
    model = build(cfg.model, "model")
    if not isinstance(model, TrainingModel):
        raise UserError("model.type must be segkd.segmentor.Segmentor or segkd.distiller.Distiller")
    return model


def build_unlabelled(cfg: Config) -> Images | None:
    """The images without labels, if the config has any."""
    given = cfg.data.unlabelled
    return None if given is None else build_images(given, cfg.data.dataset)


def unlabelled_in_step(cfg: Config) -> int:
    """How many images without labels a step has, over all processes."""
    if cfg.data.unlabelled is None:
        return 0
    share, processes = cfg.data.batch_size * cfg.data.unlabelled_ratio, world_size()
    return max(1, round(share / processes)) * processes


def answers_of(model: Mapping[str, Any]) -> Path | None:
    """The folder of kept answers that a model's config has as its teacher, if it has one.

    Raises:
        UserError: one among several teachers.
    """
    given = [model.get("teacher"), *(model.get("teachers") or {}).values()]
    sources = [one.get("source") if isinstance(one, Mapping) else getattr(one, "source", None) for one in given]
    named = [Path(str(source).removeprefix("cache:")) for source in sources if isinstance(source, str | Path)]
    folders = [folder for folder in named if (folder / ABOUT).is_file()]
    if folders and len([one for one in given if one is not None]) > 1:
        raise UserError(f"{folders[0]} holds a teacher's answers; such a teacher teaches alone, not beside others")
    return folders[0] if folders else None


def build_hears(cfg: Config, labelled: int, unlabelled: Images | None) -> Hears | None:
    """What teachers hear in place of the crops; None if they see those."""
    folder, view = answers_of(cfg.model), cfg.data.teacher_view
    if folder is not None:
        if view != CROP:
            raise UserError(f"{folder} holds a teacher's answers to whole images: leave out data.teacher_view")
        return Recall(Answers(folder, {LABELLED: labelled, **({UNLABELLED: len(unlabelled)} if unlabelled else {})}))
    if isinstance(view, str):
        return None if view == CROP else Whole()
    return Whole(view)


def build_transform(
    augment: Mapping[str, Any], dataset: SegmentationDataset | None = None, skip_bad: bool = False
) -> Any:
    """The augmentation of ``data.augment``; with a data set, it knows what is rare in it, and takes pixels of it.

    Raises:
        UserError: ``class_share`` of another number of classes.
    """
    transform = build(augment, "augmentation")
    if not isinstance(transform, TrainTransform) or dataset is None:
        return transform
    if transform.needs_class_share:
        transform.learn(counted_once(Tolerant(dataset) if skip_bad else dataset))
    if transform.rare is not None and len(transform.rare.class_share) != dataset.num_classes:
        raise UserError(
            f"data.augment.class_share has {len(transform.rare.class_share)} shares, but {type(dataset).__name__} has "
            f"{dataset.num_classes} classes"
        )
    transform.partner = partial(_pair, dataset)
    return transform


def _pair(dataset: SegmentationDataset, seed: int) -> Sample:
    return dataset[seed % len(dataset)]


def readable(cfg: Config, dataset: SegmentationDataset) -> SegmentationDataset:
    """The data set for a look at its labels: with ``data.skip_bad``, as one without files that cannot be used."""
    return Tolerant(dataset) if cfg.data.skip_bad else dataset


def image_cache(cfg: Config, dataset: SegmentationDataset) -> ImageCache | None:
    """Where decoded training images are kept, if they are."""
    if not cfg.data.cache:
        return None
    return ImageCache(dataset, DEFAULT if cfg.data.cache is True else cfg.data.cache)


def build_train_loader(cfg: Config, dataset: SegmentationDataset, start: int, steps: int) -> Loader:
    """The part of this process in the batches for the steps from ``start`` to the last of ``steps``."""
    unlabelled = build_unlabelled(cfg)
    cache = image_cache(cfg, dataset)
    return train_loader(
        dataset if cache is None else Cached(dataset, cache),
        build_transform(cfg.data.augment, dataset, cfg.data.skip_bad),
        batch_size=cfg.data.batch_size,
        steps=steps,
        seed=cfg.seed,
        start=start,
        workers=cfg.data.workers,
        rank=rank(),
        world_size=world_size(),
        unlabelled=unlabelled,
        unlabelled_size=unlabelled_in_step(cfg),
        hears=build_hears(cfg, len(dataset), unlabelled),
        skip_bad=cfg.data.skip_bad,
    )


def build_eval_loader(cfg: Mapping[str, Any] | Config, dataset: SegmentationDataset) -> Loader:
    """The split in order, at native size; of several processes, each takes its own share of the images."""
    workers = min(Config.of(cfg).data.workers, 1)
    return eval_loader(dataset, batch_size=1, workers=workers, rank=rank(), world_size=world_size())


def build_student(cfg: Mapping[str, Any] | Config) -> Network:
    """The student alone (a Segmentor's network, a Distiller's student), untrained, in eval mode.

    ``pretrained`` takes no part: what its training began from is neither read nor fetched again.
    """
    model = Config.of(cfg).model
    network = model.get("student", model.get("network"))
    if network is None:
        raise UserError("the config's model has neither `network` nor `student`")
    if isinstance(network, Mapping):  # what it began with is overwritten by what it learnt
        network = {key: value for key, value in network.items() if key not in ("init", "pretrained")}
    return copy.deepcopy(NETWORKS.build(network)).eval()  # the object itself, if it was given as one, is the caller's


def class_names(cfg: Mapping[str, Any] | Config) -> tuple[list[str], list[list[int]]]:
    """Class names and palette of the config's data set, from its class alone (no files are read)."""
    kind = Config.of(cfg).data.dataset.get("type")
    dataset = None if kind is None else DATASETS.resolve(kind)
    names, palette = getattr(dataset, "class_names", None), getattr(dataset, "palette", None)
    if names is None or palette is None:  # a data set whose classes are given by the config, such as `folder`
        built = build_dataset(cfg, "val")
        names, palette = built.class_names, built.palette
    return list(names), [list(colour) for colour in palette]
