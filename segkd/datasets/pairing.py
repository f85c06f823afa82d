"""Which label belongs to which image, by their names: in folders, below them, by a glob, with a suffix or a prefix."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path

from segkd.datasets.files import IMAGE_SUFFIXES, LABEL_SUFFIXES, check_name, walk_files
from segkd.datasets.formats import by_name
from segkd.datasets.label_files import WHY_NOT_JPEG
from segkd.datasets.layouts import IMAGES, LABELS
from segkd.datasets.lists import split_of
from segkd.errors import UserError

JPEGS = (".jpg", ".jpeg")
MAGIC = re.compile(r"[*?\[]")
Files = dict[str, Path]


def is_glob(text: str | Path) -> bool:
    """True if a path is a pattern of many."""
    return bool(MAGIC.search(str(text))) and not Path(text).exists()


def find_files(given: str | Path, suffixes: tuple[str, ...], what: str) -> Files:
    """The files of a folder, of those below it, or of a glob, by name.

    Raises:
        UserError: no such folder, no match, two files of one name.
    """
    if is_glob(given):
        return _globbed(str(Path(given).expanduser()), suffixes, what)
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise UserError(f"{what}: root folder not found: {folder}")
    return by_name(folder, suffixes)


def _globbed(pattern: str, suffixes: tuple[str, ...], what: str) -> Files:
    """The files of a glob by what its wildcards stand for: without the fixed folder before and the fixed end after."""
    parts = Path(pattern).parts
    first = next(k for k, part in enumerate(parts) if MAGIC.search(part))
    base, end = Path(*parts[:first]), re.split(r"[*?\]]", pattern)[-1]
    found: Files = {}
    for file in map(Path, sorted(glob.glob(pattern, recursive=True))):
        if file.suffix.lower() not in suffixes or not file.is_file():
            continue
        check_name(file)
        relative = file.relative_to(base).as_posix()
        name = relative.removesuffix(end) if Path(end).suffix else Path(relative).with_suffix("").as_posix()
        if name in found:
            raise UserError(f"two files for one name: {found[name]} and {file}; make the glob narrower")
        found[name] = file
    if not found and Path(end).suffix.lower() in JPEGS and suffixes == LABEL_SUFFIXES:
        raise UserError(f"{what} {pattern!r}: a label in JPEG cannot be read: {WHY_NOT_JPEG}")
    if not found:
        raise UserError(f"{what}: no file matches {pattern!r} (of {', '.join(suffixes)})")
    return found


def apart(folder: Path, suffix: str | None) -> tuple[Files, Files]:
    """The images and the masks of one folder that holds both: masks end in a suffix, or are PNGs beside JPEGs.

    Raises:
        UserError: neither is so.
    """
    files = list(walk_files(folder, IMAGE_SUFFIXES))
    stems = {file: file.relative_to(folder).with_suffix("").as_posix() for file in files}
    if suffix is None:
        suffix = _usual_suffix(stems.values())
    if suffix is None:
        masks = [file for file in files if file.suffix.lower() in LABEL_SUFFIXES]
        if not masks or len(masks) == len(files):
            raise UserError(
                f"{folder} holds images and masks in one folder, and which is which is not clear: say by "
                "suffix='_mask' in what the masks' names end"
            )
        suffix = ""
    else:
        masks = [file for file in files if stems[file].endswith(suffix)]
        if wrong := next((file for file in masks if file.suffix.lower() not in LABEL_SUFFIXES), None):
            raise UserError(f"{wrong}: a label in {wrong.suffix[1:].upper()} cannot be read: {WHY_NOT_JPEG}")
    chosen = set(masks)
    images = {stems[file]: file for file in files if file not in chosen}
    return images, {stems[file].removesuffix(suffix): file for file in masks}


def _usual_suffix(stems: Iterable[str]) -> str | None:
    """What follows another file's stem in at least a third of the files' stems: "_mask"."""
    known = set(stems)
    ends: Counter[str] = Counter()
    for stem in known:
        for cut in [match.start() for match in re.finditer(r"[^A-Za-z0-9]", stem)]:
            if cut and stem[:cut] in known:
                ends[stem[cut:]] += 1
    best = ends.most_common(1)
    return best[0][0] if best and 3 * best[0][1] >= len(known) else None


def match(
    images: Mapping[str, Path], labels: Mapping[str, Path], suffix: str | None = None
) -> tuple[Files, dict[str, str]]:
    """Images by the names that they share with labels, and the labels' own names by those.

    Names are equal as they are; or, where none is, without the folders that say what a side is (``rgb``, ``masks``),
    without folders, or without what all of a side have before or after (``_leftImg8bit``, ``mask_``).

    Args:
        suffix: what labels' names end in; other files among them are none.
    """
    if suffix is not None:
        kept = {name.removesuffix(suffix): name for name in labels if name.endswith(suffix)}
        if not kept:
            raise UserError(f"no label's name ends in {suffix!r}: they are called like {next(iter(labels), 'none')!r}")
        return _named_alike(images, kept)
    return _named_alike(images, {name: name for name in labels})


def _named_alike(images: Mapping[str, Path], labels: Mapping[str, str]) -> tuple[Files, dict[str, str]]:
    if not images.keys() & labels.keys():
        for rename in (_without_kinds, _base_names, _cores):
            ours, theirs = rename(images, labels)
            if ours.keys() & theirs.keys():
                return {name: images[own] for name, own in ours.items()}, {n: labels[own] for n, own in theirs.items()}
    return dict(images), dict(labels)


def _without_kinds(images: Iterable[str], labels: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Names without the folders that say what a side is (``clip1/rgb/0``, ``clip1/seg/0``) -> names."""
    sides = []
    for names, words in ((list(images), IMAGES), (list(labels), LABELS)):
        found = {"/".join(part for part in name.split("/") if part.lower() not in words): name for name in names}
        sides.append(found if len(found) == len(names) else {})
    return sides[0], sides[1]


def _base_names(images: Iterable[str], labels: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Names without folders -> names, where one side has none; nothing where two would be the same."""
    sides = []
    if all("/" in name for name in images) and all("/" in name for name in labels):
        return {}, {}  # images/train and labels/val are no pairs
    for names in (list(images), list(labels)):
        found = {name.rpartition("/")[2]: name for name in names}
        sides.append(found if len(found) == len(names) else {})
    return sides[0], sides[1]


def _cores(images: Iterable[str], labels: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Names without what all of a side begin or end with -> names, for the least cut that lets most of them meet."""
    ours, theirs = _cuts(list(images)), _cuts(list(labels))
    pairs = list(product(ours, theirs))
    return max(pairs, key=lambda pair: len(pair[0].keys() & pair[1].keys()), default=({}, {}))


def _cuts(names: list[str]) -> list[dict[str, str]]:
    """The ways to cut a beginning and an end that all names share, the least first.

    Of beginnings, those alone that say what a side is (``image_``, ``mask_``), and of ends those with letters: others
    tell sequences, moments or splits apart, and names without them would meet that are of different images.
    """
    bases = [name.rpartition("/")[2] for name in names]
    before, after = _shared(bases), _shared([base[::-1] for base in bases])[::-1]
    heads = [head for head in (re.sub(r"[A-Za-z0-9]*$", "", before), re.sub(r"\d+$", "", before)) if _says_kind(head)]
    tails = [tail for tail in (re.sub(r"^[A-Za-z0-9]*", "", after), re.sub(r"^\d+", "", after)) if _says_what(tail)]
    found = []
    for head, tail in dict.fromkeys(product(["", *heads], ["", *tails])):
        cut = {
            name[: -len(base)] + base.removeprefix(head).removesuffix(tail): name
            for base, name in zip(bases, names, strict=True)
        }
        if len(cut) == len(names):
            found.append(cut)
    return found


def _says_kind(head: str) -> bool:
    """Whether a beginning is a word for images or for labels."""
    word = re.sub(r"[^A-Za-z]", "", head).lower()
    return not re.search(r"\d", head) and {word, f"{word}s"} & {*IMAGES, *LABELS} != set()


def _says_what(tail: str) -> bool:
    """Whether an end holds a word, and none for a split."""
    words = re.findall(r"[A-Za-z]+", tail)
    return bool(words) and not any(map(split_of, words))


def _shared(texts: list[str]) -> str:
    """What all texts begin with."""
    low, high = min(texts, default=""), max(texts, default="")
    size = next((k for k, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:size]
