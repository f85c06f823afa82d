"""Dividing images into splits: at random by a seed, frames of one sequence together, classes in equal shares."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segkd import arguments
from segkd.errors import UserError

IMAGE, PREFIX, FOLDER = "image", "prefix", "folder"
GROUPS = f"{IMAGE!r}, {PREFIX!r}, {FOLDER!r} or a regular expression"
Counts = NDArray[np.int64]
EXCHANGES = 10000  # tried


def group_of(name: str, group: str) -> str:
    """The sequence that an image belongs to, by its name.

    Args:
        group: "image": each is its own; "prefix": what comes before the last number (``0001TP_008550`` is of
            ``0001TP``, ``clip-3/frame12`` of ``clip-3/frame``); "folder": where it lies; else a regular expression,
            whose first group, or whole match, is the sequence.
    """
    if group == IMAGE:
        return name
    if group == PREFIX:
        return re.sub(r"[^0-9A-Za-z]*\d+\D*$", "", name)
    if group == FOLDER:
        return name.rpartition("/")[0]
    found = re.search(group, name)
    if found is None:
        raise UserError(f"group={group!r} does not match the image {name!r}; it must find the sequence in every name")
    return found[1] if found.re.groups else found[0]


def grouped(names: Sequence[str], group: str | None) -> dict[str, list[int]]:
    """Sequence -> the places of its images in ``names``."""
    word = group or IMAGE
    if word not in (IMAGE, PREFIX, FOLDER):
        try:
            re.compile(word)
        except re.error as error:
            raise UserError(f"group={word!r} is none of {GROUPS}: {error}") from error
    found: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        found.setdefault(group_of(name, word), []).append(k)
    return found


def draw(names: Sequence[str], share: float, seed: int, group: str | None, source: str) -> set[int]:
    """The places in ``names`` of about a share of the images, at least one and not all; whole sequences.

    Raises:
        UserError: too few images, or one sequence alone.
    """
    share = arguments.number(share, "val", "a folder data set", above=0, below=1)
    wanted = max(1, round(share * len(names)))
    groups = list(grouped(names, group).values())
    if len(groups) == len(names):
        if wanted >= len(names):
            raise UserError(f"{source}: {len(names)} pairs are too few for a validation share of {share:g}")
        return set(random.Random(seed).sample(range(len(names)), wanted))
    if len(groups) < 2:
        raise UserError(f"{source}: all {len(names)} images are of one sequence by group={group!r}; choose another")
    chosen: set[int] = set()
    order = random.Random(seed).sample(groups, len(groups))
    for own in order[:-1]:  # one sequence at least is left
        if not chosen or abs(len(chosen) + len(own) - wanted) < abs(len(chosen) - wanted):
            chosen |= set(own)
    return chosen


def stratify(
    counts: Counts, groups: Sequence[Sequence[int]], shares: Mapping[str, float], seed: int
) -> dict[str, list[int]]:
    """The images of each split, whole groups, so that every class has the same share of its pixels in each.

    Groups are dealt at random, then exchanged or moved as long as that makes the shares more even: the sum over splits
    of squared deviations, each in parts of what it should be, of images and of every class's pixels.

    Args:
        counts: (images, classes) pixels.
        groups: the places of the images of each group.
        shares: split -> share of all images, summing to 1.
        seed: of the draws.
    """
    draws = np.random.Generator(np.random.PCG64(seed))
    held = np.stack([np.append(counts[list(own)].sum(0), len(own)) for own in groups]).astype(np.float64)
    wanted = np.array(list(shares.values()))[:, None] * held.sum(0)
    wanted[wanted == 0] = np.inf  # of classes that are nowhere
    order = draws.permutation(len(groups))
    ends = np.cumsum([max(1, round(share * len(groups))) for share in shares.values()][1:])
    place = np.zeros(len(groups), dtype=np.int64)  # split of each group; the first has what the others leave
    for split, (first, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
        place[order[first:end]] = split
    has = np.stack([held[place == split].sum(0) for split in range(len(shares))])
    for a, b, moves in zip(*draws.integers(0, len(groups), (2, EXCHANGES)), draws.random(EXCHANGES) < 0.2, strict=True):
        if place[a] == place[b] or (moves and (place == place[a]).sum() == 1):
            continue
        change = held[a] - (0 if moves else held[b])
        both = [place[a], place[b]]
        now = has[both] + np.stack([-change, change])
        if (((now / wanted[both]) - 1) ** 2).sum() < (((has[both] / wanted[both]) - 1) ** 2).sum():
            has[both] = now
            place[a], place[b] = place[b], place[b] if moves else place[a]
    return {
        name: sorted(k for g in np.flatnonzero(place == n) for k in groups[int(g)]) for n, name in enumerate(shares)
    }
