"""One scene from a random generator to a picture and its label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segkd.datasets._scene.ground import draw_ground, random_street
from segkd.datasets._scene.layout import Layout
from segkd.datasets._scene.palette import THING
from segkd.datasets._scene.sensor import develop
from segkd.datasets._scene.stage import Stage
from segkd.datasets._scene.weather import draw_sky, random_camera, random_light

Bytes = NDArray[np.uint8]


def render(height: int, width: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """(image (H, W, 3) RGB, label (H, W) with classes 0..10 and 255) of one random street.

    What is drawn depends on the generator alone: no draw from it depends on the size.
    """
    light, kind = random_light(rng)
    stage = Stage(random_camera(rng), light, height, width)
    street = random_street(rng)
    objects = Layout(stage, street, rng).build()
    draw_sky(stage, kind, rng)
    draw_ground(stage, street, rng)
    for thing in objects:
        thing.cast(stage)
    stage.apply_shadow()
    for thing in objects:
        thing.draw(stage)
    draw_bonnet(stage, rng)
    return develop(stage, rng)


def draw_bonnet(stage: Stage, rng: np.random.Generator) -> None:
    """Now and then the bonnet of the camera's own car; it belongs to no class."""
    shown, high, tone, wide = rng.random(4)
    if shown > 0.12:
        return
    h, w = stage.shadow.shape
    top, side = h * (0.97 - 0.07 * high), w * 0.12 * wide
    t = np.linspace(0, np.pi, 15)
    arc = np.stack((w / 2 - (w / 2 - side) * np.cos(t), top + 0.05 * h * (1 - np.sin(t))), axis=1)
    k = 40 + 110 * tone
    stage.fill(np.concatenate((arc, [(w - side, h + 2), (side, h + 2)])), (k, k, 1.03 * k, THING))
