"""Which network a file's tensors are of, found by trying those that segkd and the libraries know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

Shapes = dict[str, tuple[int, ...]]
#: share of all names that must agree for a network to be called the nearest
LEAST = 0.5
#: encoders tried first, before the others of the library
USUAL = ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "mit_b0", "mit_b1", "mit_b2", "mit_b3")
#: parts of names -> what wrote such a file
WRITERS = {
    ("backbone.", "decode_head.conv_seg."): "its names are mmsegmentation's: mmseg:NAME@{file}",
    ("decode_head.linear_c.",): "its names are those of transformers: name the folder that it came in, hf:FOLDER",
    ("encoder.model.", "segmentation_head."): "it is a model of smp with an encoder of timm: smp:ARCH/tu-NAME@{file}",
    ("pixel_level_module.",): "its names are those of transformers: name the folder that it came in, hf:FOLDER",
}
BACKBONE_HEADS = ("fc.weight", "head.weight", "head.fc.weight", "classifier.weight", "classifier.1.weight")


def suggestion(tensors: Mapping[str, Tensor], file: Path, but: str = "") -> str:
    """Text that says what the tensors of ``file`` fit, or what comes nearest; ``but``: what was tried already."""
    for parts, text in WRITERS.items():
        if all(any(part in name for name in tensors) for part in parts):
            return text.format(file=file)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    best, share = "", 0.0
    for label, candidate in candidates(shapes):
        found = agreement(shapes, candidate)
        if found == 1 and label != but:
            return f"it fits {label}@{file}"
        if label == but and _counted(shapes) == _counted(candidate):
            return f"its names are those of {but}, made with other options than that has by itself"
        if found > share and label != but:
            best, share = label, found
    if share >= LEAST:
        return f"nearest is {best}, with {share:.0%} of the names"
    if any(name in BACKBONE_HEADS for name in tensors):
        return "it looks like a backbone with a classifier of images, which segments nothing"
    return "its names are those of no network that is known here; a network of your own is given as module:Class@FILE"


def agreement(given: Shapes, candidate: Shapes) -> float:
    """Share of the tensors of both that have the same name, and the same shape but for the first side (the classes)."""
    names, known = _counted(given), _counted(candidate)
    same = sum(_alike(given[name], candidate[name]) for name in names & known)
    return same / max(len(names | known), 1)


def _counted(shapes: Shapes) -> set[str]:
    return {name for name in shapes if not _apart(name)}


def _apart(name: str) -> bool:
    """True for what a file may hold or lack beside its network."""
    return name.startswith(("preprocess.", "aux_classifier.", "classification_head.")) or name.endswith(
        "num_batches_tracked"
    )


def _alike(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return len(a) == len(b) and a[1:] == b[1:]


def candidates(given: Shapes) -> Iterator[tuple[str, Shapes]]:
    """Networks by what a source calls them, those first whose parts have the file's names."""
    tops = {name.partition(".")[0] for name in given}
    if {"encoder", "decoder", "segmentation_head"} <= tops:
        yield from _of_smp(given)
    elif {"backbone", "classifier"} <= tops:
        yield from _of_torchvision()
    yield from _of_segkd()


def shapes_of(module: nn.Module) -> Shapes:
    """The shape of every tensor by its name."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _of_torchvision() -> Iterator[tuple[str, Shapes]]:
    import torchvision

    for name in torchvision.models.list_models(torchvision.models.segmentation):
        with torch.device("meta"):
            model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=2)
        yield f"torchvision:{name}", shapes_of(model)


def _of_smp(given: Shapes) -> Iterator[tuple[str, Shapes]]:
    """The encoder that has the file's names best, under each of the decoders that takes it."""
    import segmentation_models_pytorch as smp

    encoder = _encoder(given)
    for arch, cls in smp.MODEL_ARCHITECTURES_MAPPING.items():
        made = _on_meta(lambda cls=cls: cls(encoder_name=encoder, encoder_weights=None, classes=2))  # type: ignore[misc]
        if made is not None:
            yield f"smp:{arch}/{encoder}", shapes_of(made)


def _encoder(given: Shapes) -> str:
    import segmentation_models_pytorch as smp

    own = {name.removeprefix("encoder."): shape for name, shape in given.items() if name.startswith("encoder.")}
    best, share = USUAL[0], 0.0
    current = [
        name for name in smp.encoders.get_encoder_names() if not name.startswith("timm-")
    ]  # those are deprecated
    for name in dict.fromkeys([*USUAL, *current]):
        made = _on_meta(lambda name=name: smp.encoders.get_encoder(name, weights=None))  # type: ignore[misc]
        found = 0.0 if made is None else agreement(own, shapes_of(made))
        if found > share:
            best, share = name, found
        if share == 1:
            break
    return best


def _on_meta(build: Callable[[], nn.Module]) -> nn.Module | None:
    """A module without memory for its weights; None where a library refuses the combination."""
    try:
        try:
            with torch.device("meta"):
                return build()
        except RuntimeError:  # it computes with tensors while it is built
            return build()
    except (ValueError, TypeError, KeyError, AssertionError):
        return None


def _of_segkd() -> Iterator[tuple[str, Shapes]]:
    from segkd.models.catalogue import catalogue

    for label, entry in catalogue().items():
        if entry.kind == "student":
            yield f"segkd:{label}", shapes_of(entry.on_meta(20))
