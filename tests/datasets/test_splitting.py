"""Images divided into splits: sequences whole, shares of classes equal, the same by the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from segkd.datasets.splitting import draw, group_of, stratify
from segkd.errors import UserError


@pytest.mark.parametrize(
    ("name", "group", "wanted"),
    [
        ("0001TP_008550", "prefix", "0001TP"),
        ("ulm/ulm_000000_000019", "prefix", "ulm/ulm_000000"),
        ("clip3/frame12", "prefix", "clip3/frame"),
        ("12", "prefix", ""),
        ("clip3/frame12", "folder", "clip3"),
        ("day-07_cam2_0031", r"cam\d", "cam2"),
        ("day-07_cam2_0031", r"day-(\d+)", "07"),
    ],
)
def test_sequences_by_name(name: str, group: str, wanted: str) -> None:
    assert group_of(name, group) == wanted


def test_frames_of_a_sequence_stay_together() -> None:
    names = [f"clip{c}_{k:04d}" for c in range(10) for k in range(7)]
    for seed in range(20):
        chosen = draw(names, 0.2, seed, "prefix", "set")
        clips = {names[k].partition("_")[0] for k in chosen}
        assert len(chosen) == 14 == 7 * len(clips)
    assert draw(names, 0.2, 3, "prefix", "set") == draw(names, 0.2, 3, "prefix", "set")
    assert len({frozenset(draw(names, 0.2, seed, "prefix", "set")) for seed in range(20)}) > 10
    with pytest.raises(UserError, match="all 7 images are of one sequence by group='prefix'"):
        draw(names[:7], 0.2, 0, "prefix", "set")
    with pytest.raises(UserError, match="does not match the image 'clip0_0000'"):
        draw(names, 0.2, 0, "cam", "set")
    with pytest.raises(UserError, match="is none of 'image', 'prefix', 'folder' or a regular expression"):
        draw(names, 0.2, 0, "(", "set")


def counts(images: int) -> np.ndarray:
    """Pixels of five classes, from usual to rare, in clips of alike images."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet((5, 3, 1, 0.3, 0.05), images)
    return (shares * 10000).astype(np.int64)


def worst(found: dict[str, list[int]], pixels: np.ndarray, shares: dict[str, float]) -> float:
    """The largest deviation of a class's pixels in a split from what they should be, as a part of it."""
    return max(abs(pixels[own].sum(0) / (shares[s] * pixels.sum(0)) - 1).max() for s, own in found.items())


def test_classes_have_equal_shares() -> None:
    pixels, shares = counts(300), {"train": 0.7, "val": 0.2, "test": 0.1}
    groups = [[k] for k in range(300)]
    found = stratify(pixels, groups, shares, 0)
    assert sorted(k for own in found.values() for k in own) == list(range(300))
    assert {split: len(own) for split, own in found.items()} == {"train": 210, "val": 60, "test": 30}
    order = np.random.default_rng(1).permutation(300).tolist()
    at_random = {"train": order[:210], "val": order[210:270], "test": order[270:]}
    assert worst(found, pixels, shares) < 0.05 < 0.2 < worst(at_random, pixels, shares)
    assert stratify(pixels, groups, shares, 0) == found != stratify(pixels, groups, shares, 1)


def test_groups_are_divided_whole() -> None:
    pixels, shares = counts(200), {"train": 0.8, "val": 0.2}
    groups = [list(range(k, k + 5)) for k in range(0, 200, 5)]
    found = stratify(pixels, groups, shares, 0)
    for own in found.values():
        assert all((k in own) == (k // 5 * 5 in own) for k in range(200))
    assert worst(found, pixels, shares) < 0.25
    pixels[:, 2] = 0  # a class that is nowhere
    assert sum(map(len, stratify(pixels, groups, shares, 0).values())) == 200
