"""Polygons against COCO's rasteriser on the whole image, against matplotlib's point-in-polygon, and closed forms."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import own_trees
import pytest
from dataset_trees import save_image
from matplotlib.path import Path as Outline
from pycocotools import mask as coco

from segkd.datasets import create
from segkd.datasets.formats.shapes import Patch, Polygons, Runs, box, draw, ellipse
from segkd.errors import UserError

H, W = 50, 70


def drawn(region: Any, shape: tuple[int, int] = (H, W)) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    draw(label, region, 1)
    return label


def polygons(count: int, points: tuple[int, int] = (3, 9)) -> list[np.ndarray]:
    """Polygons of 3 to 8 points at eighths of a pixel, some partly or wholly outside."""
    rng = np.random.default_rng(0)
    return [rng.integers(-160, 720, (int(rng.integers(*points)), 2)) / 8 for _ in range(count)]


def test_polygons_are_coco_s() -> None:
    """Within their bounds as in the whole image."""
    for points in polygons(200):
        flat = points.ravel().tolist()
        whole = coco.decode(coco.frPyObjects([flat], H, W))[..., 0]
        np.testing.assert_array_equal(drawn(Polygons([flat])), whole)


def test_polygons_hold_the_pixels_whose_centres_they_hold() -> None:
    """COCO draws outlines in fifths of a pixel, so pixels next to an edge may differ: no other."""
    y, x = np.mgrid[:H, :W] + 0.5
    wrong = total = 0
    for points in polygons(60, (3, 4)):  # triangles: those that cross themselves are filled in other ways
        inside = Outline(points).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(H, W)
        differ = drawn(Polygons([points.ravel().tolist()])).astype(bool) != inside
        closed = np.concatenate([points, points[:1]])
        for row, column in zip(*np.nonzero(differ), strict=True):
            assert distance(np.array([column + 0.5, row + 0.5]), closed) < 0.75
        wrong, total = wrong + differ.sum(), total + inside.sum()
    assert total > 5000
    assert wrong < 0.02 * total


def distance(point: np.ndarray, outline: np.ndarray) -> float:
    best = math.inf
    for a, b in zip(outline[:-1], outline[1:], strict=True):
        t = np.clip(np.dot(point - a, b - a) / max(np.dot(b - a, b - a), 1e-9), 0, 1)
        best = min(best, float(np.linalg.norm(point - a - t * (b - a))))
    return best


def test_a_box_is_a_slice_and_an_ellipse_has_its_area() -> None:
    wanted = np.zeros((H, W), np.uint8)
    wanted[3:10, 5:20] = 1
    np.testing.assert_array_equal(drawn(box(20, 10, 5, 3)), wanted)
    for turn in (0, 30, 90):
        found = drawn(ellipse(35, 25, 20, 10, turn))
        assert found.sum() == pytest.approx(math.pi * 200, rel=0.02)
    upright = drawn(ellipse(35, 25, 20, 10, 90))
    assert upright[6, 35] == upright[43, 35] == 1
    assert upright[25, 20] == 0


def test_patches_and_runs_are_cut_at_the_image_s_edges() -> None:
    wanted = np.zeros((H, W), np.uint8)
    wanted[:4, 66:] = 1
    np.testing.assert_array_equal(drawn(Patch(-3, 66, np.ones((7, 9), bool))), wanted)
    assert drawn(Patch(60, 80, np.ones((7, 9), bool))).sum() == 0
    counts = [H * 2 + 1, 3, H * W - H * 2 - 4]  # the third column, from its second row
    wanted = np.zeros((H, W), np.uint8)
    wanted[1:4, 2] = 1
    np.testing.assert_array_equal(drawn(Runs(counts, (H, W))), wanted)
    assert drawn(Polygons([[3, 3, 9, 9], [1, 1]])).sum() == 0  # lines and points have no area


BAD = [
    (Polygons([[1, 2, 3]]), "a list of numbers, x and y in turn"),
    (Polygons([[0, 0, 9, 9, math.nan, 3]]), "a list of numbers"),
    (Polygons([[0, 0, 1e9, 0, 9, 9]]), r"points lie up to 1e\+09, 9 in an image of 70 x 50"),
    (Runs([1, 2, 3], (H, W)), "its runs are 6 pixels long, the image has 3500"),
    (Runs([H * W], (W, H)), r"its runs are of 50 x 70, the image is 70 x 50"),
]


@pytest.mark.parametrize(("region", "message"), BAD)
def test_what_is_no_region_says_so(region: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawn(region)


def coco_json(**changes: Any) -> dict[str, Any]:
    one = {"id": 5, "image_id": 1, "category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 8]]}
    image = {"id": 1, "file_name": "a.png", "height": 40, "width": 56}
    return {"images": [image], "annotations": [one | changes], "categories": [{"id": 3, "name": "car"}]}


def labelme_json(**changes: Any) -> dict[str, Any]:
    shape = {"label": "car", "points": [[0, 0], [8, 0], [8, 8]], "shape_type": "polygon"} | changes
    return {"imageHeight": 40, "imageWidth": 56, "shapes": [shape]}


def cvat_xml(element: str) -> str:
    meta = "<meta><task><labels><label><name>car</name></label></labels></task></meta>"
    image = f'<image name="a.png" width="56" height="40">{element}</image>'
    return f"<annotations>{meta}{image}</annotations>"


DAMAGED: list[tuple[str, Any, str]] = [
    ("a.json", labelme_json(label="van"), r"image a: label .van. \(1 shape\).*label_map=\{'van': CLASS\}"),
    ("a.json", labelme_json(shape_type="line"), r"a\.json: a shape of 'car' is a line, which covers no area"),
    ("a.json", labelme_json(points=[["x", 1]]), r"a\.json: no annotation as LabelMe writes them"),
    ("a.json", {"shapes": []}, r"a\.json: no annotation as LabelMe writes them \(it lacks 'imageHeight'\)"),
    ("a.json", '{"shapes": [', r"a\.json: cannot be read as JSON .*cut short"),
    ("a.json", labelme_json() | {"imageWidth": 57}, r"a\.json: label is 57 x 40 .*a\.png is 56 x 40"),
    ("x.json", coco_json(segmentation=[]), r"x\.json: annotation 5 \(car\) has no segmentation, at most a box"),
    ("x.json", coco_json(category_id=4), r"x\.json: no annotations as COCO has them \(it lacks 4\)"),
    ("x.json", coco_json(segmentation=[[0, 0, 1e7, 3, 3, 3]]), r"x\.json, image a: a shape of 'car': points lie up to"),
    ("x.json", coco_json(segmentation={"size": [40, 56], "counts": [3]}), r"its runs are 3 pixels long"),
    ("a.txt", "0 .1 .1 .9 .9\n", r"a\.txt, line 1: a box, no polygon"),
    ("a.txt", "0 1 1 9 9 1 9\n", r"a\.txt, line 1: 9 is no part of the image's size"),
    ("a.txt", "7 0 0 1 1 0 1\n", r"a\.txt, line 1: class 7 of no name; the class list has 0"),
    ("a.txt", "car 0 0 1 1\n", r"a\.txt, line 1: must be a class number and x y pairs"),
    ("x.xml", cvat_xml('<polyline label="car" points="1,2;3,4"/>'), r"image a: a polyline of 'car' covers no area"),
    ("x.xml", cvat_xml('<polygon label="car" points="1,2;3"/>'), r"a polygon must be a list of numbers"),
    ("x.xml", cvat_xml('<mask label="car" rle="1" left="0" top="0" width="2" height="2"/>'), "whose runs are 1 p"),
    ("x.xml", "<annotations><track/></annotations>", r"x\.xml: holds tracks of a video; export .*CVAT for images 1\.1"),
    ("x.xml", "<annotations>", r"x\.xml: cannot be read as XML"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), DAMAGED)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, name: str, content: Any, message: str) -> None:
    save_image(tmp_path / "images/a.png")
    file = tmp_path / "labels" / name
    file.parent.mkdir()
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        create("folder", root=tmp_path, class_names=("car",))[0]
    assert "\n" not in str(caught.value)


def test_names_are_mapped_and_ignored(tmp_path: Path) -> None:
    arguments = own_trees.write(tmp_path, "cvat", 3)
    known = own_trees.truth(own_trees.scene(1))
    names = ("background", "thing")
    data = create("folder", **arguments, class_names=names, label_map={"car": "thing", "road": "void", "sign": 1})
    np.testing.assert_array_equal(data.label_of(1), np.array([0, 255, 1, 1], np.uint8)[known])
    data = create("folder", **arguments, class_names=("road", "car"), ignore="sign", background="void")
    np.testing.assert_array_equal(data.label_of(1), np.array([255, 0, 1, 255], np.uint8)[known])
    with pytest.raises(UserError, match="label_map must map names here, as the labels hold names; got 3"):
        create("folder", **arguments, label_map={3: 0})
    with pytest.raises(UserError, match="background='floor' is neither a class nor 'void'"):
        create("folder", **arguments, background="floor")
