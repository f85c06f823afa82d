"""The same images and labels in every format that `--data folder` reads; labels are known in closed form.

All shapes have right angles and integer corners, so that every pixel's class is known without a rasteriser.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco

NAMES = ("background", "road", "car", "sign")
COLOURS = ((0, 0, 0), (128, 64, 128), (0, 0, 142), (220, 220, 0))
H, W = 64, 96
Corners = list[tuple[int, int]]
Scene = list[tuple[int, Corners]]  # (class, corners of a polygon), later over earlier


def scene(seed: int) -> Scene:
    """A few rectangles and an L, some over others, one over the image's edge."""
    rng = np.random.default_rng(seed)
    shapes: Scene = [(1, _rectangle(0, 32, W, H))]
    for _ in range(4):
        x, y = int(rng.integers(0, W - 8)), int(rng.integers(0, H - 8))
        w, h = int(rng.integers(3, 40)), int(rng.integers(3, 30))
        shapes.append((int(rng.integers(1, 4)), _rectangle(x, y, min(x + w, W), min(y + h, H))))
    x, y = int(rng.integers(4, 40)), int(rng.integers(4, 30))
    shapes.append((3, [(x, y), (x + 20, y), (x + 20, y + 6), (x + 8, y + 6), (x + 8, y + 16), (x, y + 16)]))
    return shapes


def truth(shapes: Scene) -> np.ndarray:
    """The label (H, W), by slices."""
    label = np.zeros((H, W), np.uint8)
    for kind, corners in shapes:
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        if len(corners) == 4:
            label[min(ys) : max(ys), min(xs) : max(xs)] = kind
        else:
            (x, y), (right, _), (_, step), (inner, _), (_, bottom), _ = corners
            label[y:step, x:right] = kind
            label[step:bottom, x:inner] = kind
    return label


def _rectangle(x0: int, y0: int, x1: int, y1: int) -> Corners:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def name(k: int) -> str:
    return f"clip{k // 5}_{k % 5:04d}"


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        rgb = np.random.default_rng(1000 + k).integers(0, 256, (H // 8, W // 8, 3), dtype=np.uint8)
        Image.fromarray(rgb).resize((W, H)).save(folder / f"{name(k)}.png")


def _masks(root: Path, count: int, save: Callable[[np.ndarray, Path], None], folder: str = "labels") -> None:
    (root / folder).mkdir(parents=True)
    for k in range(count):
        save(truth(scene(k)), root / folder / f"{name(k)}.png")


def _classes(root: Path) -> None:
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n")


def ids(root: Path, count: int) -> dict[str, object]:
    _masks(root, count, lambda label, path: Image.fromarray(label).save(path))
    _classes(root)
    return {}


def palette(root: Path, count: int) -> dict[str, object]:
    def save(label: np.ndarray, path: Path) -> None:
        picture = Image.fromarray(label, mode="P")
        picture.putpalette([value for colour in COLOURS for value in colour])
        picture.save(path)

    _masks(root, count, save)
    _classes(root)
    return {}


def colours(root: Path, count: int) -> dict[str, object]:
    """As CVAT's "segmentation mask 1.1"."""
    (root / "images").rename(root / "JPEGImages")
    _masks(
        root,
        count,
        lambda label, path: Image.fromarray(np.array(COLOURS, np.uint8)[label]).save(path),
        "SegmentationClass",
    )
    lines = [f"{word}:{','.join(map(str, colour))}::" for word, colour in zip(NAMES, COLOURS, strict=True)]
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n")
    return {}


def deep(root: Path, count: int) -> dict[str, object]:
    """16-bit ids 1000, 1001, ... by a label map."""
    _masks(root, count, lambda label, path: Image.fromarray(label.astype(np.uint16) + 1000).save(path))
    _classes(root)
    return {"label_map": {1000 + k: k for k in range(4)}}


def binary(root: Path, count: int) -> dict[str, object]:
    for k in range(count):
        label = truth(scene(k))
        for kind in range(1, 4):
            (root / "labels" / NAMES[kind]).mkdir(parents=True, exist_ok=True)
            Image.fromarray((label == kind).astype(np.uint8) * 255).save(
                root / "labels" / NAMES[kind] / f"{name(k)}.png"
            )
    _classes(root)
    return {}


def _coco(root: Path, count: int, runs: bool) -> None:
    images, annotations = [], []
    for k in range(count):
        images.append({"id": 7 + k, "file_name": f"{name(k)}.png", "width": W, "height": H})
        for kind, corners in scene(k):
            flat = [value for corner in corners for value in corner]
            segmentation: object = [flat]
            if runs:
                encoded = coco.encode(np.asfortranarray(truth([(1, corners)])))
                segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode()}
            own = {"id": len(annotations), "image_id": 7 + k, "category_id": 10 * kind, "segmentation": segmentation}
            annotations.append(own)
    categories = [{"id": 10 * kind, "name": NAMES[kind]} for kind in range(1, 4)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))


def coco_polygons(root: Path, count: int) -> dict[str, object]:
    _coco(root, count, runs=False)
    return {}


def coco_runs(root: Path, count: int) -> dict[str, object]:
    _coco(root, count, runs=True)
    return {}


def labelme(root: Path, count: int) -> dict[str, object]:
    """JSON beside the images; every second scene begins with a mask, the others with a rectangle."""
    for k in range(count):
        shapes = []
        for n, (kind, corners) in enumerate(scene(k)):
            shape: dict[str, object] = {"label": NAMES[kind], "points": corners, "shape_type": "polygon"}
            if n == 0 and k % 2:
                shape |= {"points": [corners[0], corners[2]], "shape_type": "rectangle"}
            elif n == 0:
                (x0, y0), (x1, y1) = corners[0], corners[2]
                data = io.BytesIO()
                Image.fromarray(np.full((y1 - y0, x1 - x0), 255, np.uint8)).convert("1").save(data, "PNG")
                shape |= {"points": [[x0, y0], [x1 - 1, y1 - 1]], "shape_type": "mask"}
                shape["mask"] = base64.b64encode(data.getvalue()).decode()
            shapes.append(shape)
        content = {
            "version": "5.5.0",
            "imagePath": f"{name(k)}.png",
            "imageHeight": H,
            "imageWidth": W,
            "shapes": shapes,
        }
        (root / "images" / f"{name(k)}.json").write_text(json.dumps(content))
    _classes(root)
    return {}


def yolo(root: Path, count: int) -> dict[str, object]:
    (root / "labels").mkdir()
    for k in range(count):
        lines = [
            " ".join([str(kind - 1), *(repr(v / s) for x, y in corners for v, s in ((x, W), (y, H)))])
            for kind, corners in scene(k)
        ]
        (root / "labels" / f"{name(k)}.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("names:\n  0: road\n  1: car\n  2: sign\n")
    return {}


def cvat(root: Path, count: int) -> dict[str, object]:
    """Of each scene the last shape comes first, but has the highest z_order; the first of all is a mask."""
    images = []
    for k in range(count):
        elements = []
        for n, (kind, corners) in enumerate(scene(k)):
            points = ";".join(f"{x}.00,{y}.00" for x, y in corners)
            element = f'<polygon label="{NAMES[kind]}" points="{points}" z_order="{n}"/>'
            if n == 0:
                (x0, y0), (x1, y1) = corners[0], corners[2]
                place = f'left="{x0}" top="{y0}" width="{x1 - x0}" height="{y1 - y0}"'
                element = f'<mask label="{NAMES[kind]}" rle="0, {(x1 - x0) * (y1 - y0)}" {place} z_order="0"/>'
            elements.append(element)
        body = "".join(elements[-1:] + elements[:-1])
        images.append(f'<image id="{k}" name="{name(k)}.png" width="{W}" height="{H}">{body}</image>')
    labels = "".join(
        f"<label><name>{word}</name><color>#{r:02x}{g:02x}{b:02x}</color></label>"
        for word, (r, g, b) in zip(NAMES, COLOURS, strict=True)
    )
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{meta}{''.join(images)}</annotations>")
    return {}


FORMATS: dict[str, Callable[[Path, int], dict[str, object]]] = {
    "ids": ids,
    "palette": palette,
    "colours": colours,
    "deep": deep,
    "binary": binary,
    "coco_polygons": coco_polygons,
    "coco_runs": coco_runs,
    "labelme": labelme,
    "yolo": yolo,
    "cvat": cvat,
}


def write(root: Path, kind: str, count: int = 20) -> dict[str, object]:
    """A folder with images and labels in a format; the arguments of the data set."""
    shutil.rmtree(root, ignore_errors=True)
    write_images(root / "images", count)
    return {"root": str(root), **FORMATS[kind](root, count)}
