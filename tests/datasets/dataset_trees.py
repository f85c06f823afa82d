"""Small data sets on disk in the layouts that segkd reads, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

H, W = 40, 56


def save_image(path: Path, seed: int = 0, size: tuple[int, int] = (H, W)) -> np.ndarray:
    """A random picture written with PIL, so that OpenCV's reading is tested against another library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return np.asarray(Image.open(path).convert("RGB"))


def save_label(path: Path, label: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label.astype(np.uint8)).save(path)
    return label


def ids(seed: int, low: int, high: int) -> np.ndarray:
    return np.random.default_rng(100 + seed).integers(low, high, (H, W), dtype=np.uint8)


def plain_camvid(
    root: Path, names: tuple[str, ...] = ("a", "b", "c"), splits: tuple[str, ...] = ("train", "val")
) -> Path:
    for split in splits:
        for k, name in enumerate(names):
            save_image(root / "images" / split / f"{split}_{name}.jpg", k)
            save_label(root / "labels" / split / f"{split}_{name}.png", ids(k, 0, 11))
    return root


def segnet_camvid(root: Path, count: int = 3) -> Path:
    for split in ("train", "val"):
        for k in range(count):
            save_image(root / split / f"{split}{k}.png", k)
            save_label(root / f"{split}annot" / f"{split}{k}.png", ids(k, 0, 12))
    return root


def save_frame(root: Path, city: str, stored: np.ndarray, split: str = "train", frame: str = "000000_000019") -> None:
    save_image(root / "leftImg8bit" / split / city / f"{city}_{frame}_leftImg8bit.png", 1)
    stem = root / "gtFine" / split / city / f"{city}_{frame}_gtFine_"
    save_label(Path(f"{stem}labelIds.png"), stored)
    save_image(Path(f"{stem}color.png"), 2)  # distributed beside it, not to be read
    save_label(Path(f"{stem}instanceIds.png"), stored)


def own_folder(root: Path, stored: np.ndarray) -> dict[str, object]:
    save_image(root / "pictures" / "x.png")
    save_label(root / "masks" / "x.png", stored)
    return {"images": root / "pictures", "labels": root / "masks", "class_names": ("ground", "weed", "crop")}
