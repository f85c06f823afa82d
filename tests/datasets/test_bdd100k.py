"""BDD100K, on a small tree as distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_trees import H, W, save_image, save_label

from segkd.datasets import create
from segkd.errors import UserError


def test_masks_hold_train_ids(tmp_path: Path) -> None:
    stored = np.resize([*range(19), 255], (H, W))
    save_image(tmp_path / "bdd100k/images/10k/val/x.jpg")
    save_label(tmp_path / "bdd100k/labels/sem_seg/masks/val/x.png", stored)
    for root in (tmp_path, tmp_path / "bdd100k"):
        np.testing.assert_array_equal(create("bdd100k", root=root, split="val")[0].label, stored)


def test_the_root_of_another_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "images/100k/train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"has no images/10k \(the root holds images/10k/ and labels/sem_seg/masks/\)"):
        create("bdd100k", root=tmp_path)
