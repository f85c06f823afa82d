"""A user's own data: a folder of images, and a folder of labels with the same file names."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from segkd import arguments
from segkd.datasets.base import DATASETS, IGNORE
from segkd.datasets.files import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    UNKNOWN,
    FilePairs,
    LabelTable,
    existing_root,
    identity_table,
    list_files,
)
from segkd.datasets.palettes import spread_palette
from segkd.errors import UserError


@DATASETS.register("folder")
class FolderDataset(FilePairs):
    """Any pairs of files: ``images/NAME.jpg`` with ``labels/NAME.png``, ids 0..K-1 (or others, with ``label_map``).

    Args:
        images, labels: the two folders.
        class_names: one name per class, in id order; or a text file with a name on each line.
        palette: one (R, G, B) per class; made up if left out.
        ignore: the stored id that means void; 255 does, too, unless ``label_map`` says what it means.
        label_map: stored id -> class (or 255 to ignore it), if the stored ids are not the classes (``{0: 0, 255: 1}``
            of masks in black and white); ids that it lacks are an error.
        white: the value that is white in images of more than 8 bits, such as 4095 of a 12-bit sensor.
        upright: turn photographs as their orientation tags say, as their labels were drawn; else as they are stored.
        check: see ``FilePairs``.
        split: "train" or "val" of the pairs, with ``val``; all of them without.
        val: share of the pairs that is for validation, at least one; drawn once by ``seed``.
        seed: of that draw, which does not depend on anything else.
    """

    splits = ("train", "val")

    def __init__(
        self,
        images: str | Path,
        labels: str | Path,
        class_names: Sequence[str] | str | Path,
        palette: Sequence[Sequence[int]] | None = None,
        ignore: int = IGNORE,
        label_map: Mapping[int, int] | None = None,
        check: bool = True,
        upright: bool = True,
        white: float | None = None,
        split: str | None = None,
        val: float | None = None,
        seed: int = 0,
    ) -> None:
        self.class_names = read_class_names(class_names)
        self.palette = _palette(palette, len(self.class_names))
        if white is not None:
            white = arguments.number(white, "white", "a folder data set", above=0)
        table = _table(len(self.class_names), ignore, label_map)
        image_files = list_files(existing_root(images, "images"), IMAGE_SUFFIXES)
        label_files = list_files(existing_root(labels, "labels"), LABEL_SUFFIXES)
        super().__init__(image_files, label_files, table, f"data set of {images} and {labels}", check, upright, white)
        if split is not None or val is not None:
            self._keep(split, val, seed)

    def _keep(self, split: str | None, val: float | None, seed: int) -> None:
        """Keep one split's pairs."""
        if split not in self.splits:
            raise UserError(f"{self.source}: split must be 'train' or 'val', got {split!r}")
        if val is None:
            raise UserError(f"{self.source} has no split of its own: give val=0.2, the share for validation")
        share = arguments.number(val, "val", "a folder data set", above=0, below=1)
        count = max(1, round(share * len(self.pairs)))
        if count >= len(self.pairs):
            raise UserError(f"{self.source}: {len(self.pairs)} pairs are too few for a validation share of {share:g}")
        chosen = set(random.Random(seed).sample(range(len(self.pairs)), count))
        self.pairs = [pair for k, pair in enumerate(self.pairs) if (k in chosen) == (split == "val")]


def read_class_names(given: Sequence[str] | str | Path) -> tuple[str, ...]:
    """Class names as they are, or from the lines of a text file; empty lines are none."""
    if not isinstance(given, str | Path):
        return tuple(given)
    try:
        lines = Path(given).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read class names from {given}: {error}; it must be text, a name on each line"
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise UserError(f"{given} holds no class names: write one on each line, in the order of their ids")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{given} names the class {twice[0]!r} twice")
    return names


def _palette(given: Sequence[Sequence[int]] | None, num_classes: int) -> tuple[tuple[int, int, int], ...]:
    if not 1 <= num_classes <= UNKNOWN:
        raise UserError(f"a folder data set needs 1 to {UNKNOWN} class_names, got {num_classes}")
    if given is None:
        return spread_palette(num_classes)
    if len(given) != num_classes or any(len(c) != 3 or not 0 <= min(c) <= max(c) <= 255 for c in given):
        raise UserError(
            f"palette needs one (R, G, B) of 0..255 for each of the {num_classes} classes, got {len(given)}"
        )
    return tuple((int(r), int(g), int(b)) for r, g, b in given)


def _table(num_classes: int, ignore: int, label_map: Mapping[int, int] | None) -> LabelTable:
    if not 0 <= ignore <= IGNORE:
        raise UserError(f"ignore must be a stored id of 0..255, got {ignore}")
    if label_map is None:
        return identity_table(num_classes, ignore)
    try:  # a config that was written out and read again has the ids as text
        label_map = {int(stored): int(target) for stored, target in label_map.items()}
    except (TypeError, ValueError) as error:
        raise UserError(f"label_map must map integers to integers, got {dict(label_map)}") from error
    wrong = {i: k for i, k in label_map.items() if not (0 <= k < num_classes or k == IGNORE)}
    if wrong:
        stored, target = next(iter(wrong.items()))
        raise UserError(
            f"label_map {stored} -> {target}: there are classes 0..{num_classes - 1}, and {IGNORE} to ignore"
        )
    if ignore != IGNORE and label_map.get(ignore, IGNORE) != IGNORE:
        raise UserError(
            f"label_map {ignore} -> {label_map[ignore]}, and ignore={ignore}: a stored id is a class or void, not both"
        )
    ids = {ignore: IGNORE, IGNORE: IGNORE} | label_map
    return LabelTable(ids, f"the ids of its label_map ({', '.join(map(str, sorted(ids)))})")
