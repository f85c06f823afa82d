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

    Groups are given out one after the other, those first that hold the rarest class left; each goes where that class
    lacks most (after Sechidis et al. 2011, by pixels in place of labels), or else where images lack most.

    Args:
        counts: (images, classes) pixels.
        groups: the places of the images of each group.
        shares: split -> share of all images, summing to 1.
        seed: of the order among equals.
    """
    sums = np.stack([counts[list(own)].sum(0) for own in groups]).astype(np.float64)
    sizes = np.array([len(own) for own in groups], dtype=np.float64)
    names, parts = list(shares), np.array(list(shares.values()))
    lacks = parts[:, None] * sums.sum(0)  # (splits, classes) pixels still wanted
    room = parts * sizes.sum()
    left = set(random.Random(seed).sample(range(len(groups)), len(groups)))
    order = {group: place for place, group in enumerate(random.Random(seed).sample(range(len(groups)), len(groups)))}
    found: dict[str, list[int]] = {name: [] for name in names}
    while left:
        rest = sums[sorted(left)].sum(0)
        kind = int(np.argmin(np.where(rest > 0, (sums[sorted(left)] > 0).sum(0), np.inf))) if rest.any() else None
        holders = [k for k in left if kind is not None and sums[k, kind] > 0] or list(left)
        best = max(holders, key=lambda k: (sums[k, kind] if kind is not None else sizes[k], -order[k]))
        open_to = [k for k in range(len(names)) if room[k] > 0] or [int(np.argmax(room))]
        whole = np.maximum(parts * (sums[:, kind].sum() if kind is not None else 1), 1e-9)
        where = max(open_to, key=lambda k: (lacks[k, kind] / whole[k] if kind is not None else 0.0, room[k] / parts[k]))
        found[names[where]] += groups[best]
        lacks[where] -= sums[best]
        room[where] -= sizes[best]
        left.remove(best)
    return {name: sorted(own) for name, own in found.items()}
