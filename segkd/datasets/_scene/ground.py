"""The ground: road with its markings and wear, kerbs, pavement slabs, lawns, side streets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from segkd.datasets._scene.palette import (
    EARTHS,
    FOLIAGE,
    GREYS,
    LAWN,
    PAVEMENT,
    ROAD,
    Color,
    any_color,
    blend,
    near,
    pick,
    shift,
)
from segkd.datasets._scene.stage import Array, Stage

FAR = 240.0
RIBBON = np.geomspace(1.0, FAR, 26)


@dataclass(frozen=True)
class Street:
    """Lateral offsets in m from the camera's line, negative to the left.

    road: left and right kerb; pavement: outer edges of the pavements; junctions: (z0, z1) of the side streets;
    keep: +1 drives on the right, -1 on the left.
    """

    road: tuple[float, float]
    pavement: tuple[float, float]
    junctions: tuple[tuple[float, float], ...]
    keep: int
    asphalt: Color = (96, 96, 98)
    slabs: Color = (140, 138, 134)
    lawn: tuple[Color | None, Color | None] = field(default=(None, None))


def random_street(rng: np.random.Generator) -> Street:
    """Two lanes or a wide street, pavements of 1.4 to 4.5 m, now and then a junction."""
    keep = 1 if rng.random() < 0.5 else -1
    own, other = rng.uniform(1.7, 4.6), rng.uniform(3.6, 8.5)
    road = (-other, own) if keep > 0 else (-own, other)
    wide = rng.uniform(1.4, 4.5, 2)
    junctions = []
    z = rng.uniform(6, 45)
    while z < 110:
        if rng.random() < 0.6:
            junctions.append((z, z + rng.uniform(6, 11)))
        z += rng.uniform(25, 70)
    asphalt = near(rng, pick(rng, (*GREYS[:5], EARTHS[5])), 0.12)
    slabs = near(rng, pick(rng, (*GREYS[1:], EARTHS[2], EARTHS[3], EARTHS[7], EARTHS[8])), 0.12)
    if rng.random() < 0.4:
        slabs = near(rng, asphalt, 0.1)
    lawns = tuple(near(rng, pick(rng, FOLIAGE[:7])) if rng.random() < 0.3 else None for _ in range(2))
    pavement = (road[0] - float(wide[0]), road[1] + float(wide[1]))
    return Street(road, pavement, tuple(junctions), keep, asphalt, slabs, (lawns[0], lawns[1]))


def ribbon(stage: Stage, s0: float, s1: float, z0: float = 1.0, z1: float = FAR) -> Array:
    """Outline on the ground of the strip between the offsets s0 and s1."""
    z = RIBBON[(z0 < RIBBON) & (z1 > RIBBON)]
    z = np.concatenate(([z0], z, [z1]))
    x = stage.camera.bend * z * z
    out = np.zeros((2 * len(z), 3))
    out[:, 0] = np.concatenate((x + s0, (x + s1)[::-1]))
    out[:, 2] = np.concatenate((z, z[::-1]))
    return out


def strip(stage: Stage, s0: float, s1: float, color: Color, surface: int, z0: float = 1.0, z1: float = FAR) -> None:
    """Fill a strip of ground, in pieces so that far parts fade into the haze."""
    cuts = [z0, *(z for z in (14.0, 32.0, 70.0) if z0 < z < z1), z1]
    for near_z, far_z in zip(cuts[:-1], cuts[1:], strict=True):
        mid = near_z + 0.4 * (min(far_z, 140.0) - near_z)
        stage.face(ribbon(stage, s0, s1, near_z, far_z), stage.ink(color, surface, mid))


def bars(stage: Stage, boxes: Array, color: Color) -> None:
    """Short pieces of paint on the road, (n, 4) boxes (s0, s1, z0, z1), projected at once."""
    out = np.zeros((len(boxes), 4, 3))
    out[..., 2] = boxes[:, (2, 2, 3, 3)]
    out[..., 0] = boxes[:, (0, 1, 1, 0)] + stage.camera.bend * out[..., 2] ** 2
    far = boxes[:, 2] > 25
    for part, z in ((out[~far], 12.0), (out[far], 45.0)):
        if len(part):
            stage.face(part, stage.ink(color, ROAD, z))


def draw_ground(stage: Stage, street: Street, rng: np.random.Generator) -> None:
    """Everything that lies on the ground."""
    for side, lawn in enumerate(street.lawn):
        edge, sign = street.pavement[side], 2 * side - 1
        strip(stage, edge, edge + sign * 60, lawn or shift(street.slabs, -0.08), LAWN if lawn else PAVEMENT)
    strip(stage, *street.pavement, street.slabs, PAVEMENT)
    draw_slabs(stage, street, rng)
    kerb = near(rng, pick(rng, GREYS[2:]), 0.1)
    for side, edge in enumerate(street.road):
        strip(stage, edge, edge + (2 * side - 1) * 0.22, kerb, PAVEMENT)
    strip(stage, *street.road, street.asphalt, ROAD)
    for z0, z1 in street.junctions:
        strip(stage, -60, 60, street.asphalt, ROAD, z0, z1)
    draw_wear(stage, street, rng)
    draw_markings(stage, street, rng)


def draw_slabs(stage: Stage, street: Street, rng: np.random.Generator) -> None:
    """Joints between pavement slabs, and now and then between the cobbles of the road."""
    size, joint = rng.uniform(0.5, 1.2), rng.uniform(-0.3, -0.1)
    whole = rng.random() < 0.15
    spans = [street.pavement] if whole else [(street.pavement[0], street.road[0]), (street.road[1], street.pavement[1])]
    for s0, s1 in spans:
        z = np.arange(2.0, 26.0, size)
        x = stage.camera.bend * z * z
        cross = np.zeros((len(z), 2, 3))
        cross[:, 0, 0], cross[:, 1, 0], cross[:, :, 2] = x + s0, x + s1, z[:, None]
        s = np.arange(s0, s1, size)
        along = np.zeros((len(s), 8, 3))
        depth = np.geomspace(1.5, 26, 8)
        along[:, :, 0], along[:, :, 2] = s[:, None] + stage.camera.bend * depth**2, depth
        ink = stage.ink(shift(street.slabs, joint), PAVEMENT, 8.0)
        stage.lines(stage.project(cross), ink)
        stage.lines(stage.project(along), ink)


def draw_wear(stage: Stage, street: Street, rng: np.random.Generator) -> None:
    """Patches, cracks, manholes and wheel tracks."""
    left, right = street.road
    for _ in range(int(rng.random() * 5)):
        s, z, w, d, tone, on_pavement = rng.random(6).tolist()
        surface = PAVEMENT if on_pavement < 0.25 else ROAD
        s = left + s * (right - left) if surface == ROAD else street.road[1] + s * (street.pavement[1] - street.road[1])
        top = s + 0.4 + 1.6 * w if surface == ROAD else street.pavement[1]
        z = 4 + 26 * z * z
        base = street.asphalt if surface == ROAD else street.slabs
        strip(
            stage,
            s,
            min(top, right if surface == ROAD else top),
            shift(base, 0.5 * tone - 0.3),
            surface,
            z,
            z + 0.8 + 6 * d,
        )
    cracks = int(rng.random() * 5)
    steps = rng.normal(0, 0.35, (cracks, 7, 2)) + rng.normal(0, 0.35, (cracks, 1, 2))
    start = rng.random((cracks, 1, 2)) * (right - left - 1, 16) + (left + 0.5, 5)
    path = np.cumsum(np.concatenate((start, steps), axis=1), axis=1)
    points = np.stack(
        (np.clip(path[..., 0], left, right), np.zeros(path.shape[:2]), np.maximum(path[..., 1], 3)), axis=-1
    )
    if cracks:
        stage.lines(stage.project(points), stage.ink(shift(street.asphalt, -0.35), ROAD, 8.0))
    draw_tracks(stage, street, rng)


def draw_tracks(stage: Stage, street: Street, rng: np.random.Generator) -> None:
    """Two wheel tracks worn into each lane."""
    tone, s = rng.uniform(-0.14, 0.1), rng.uniform(0.6, 0.9)
    for lane in (0.0, -street.keep * 3.4):
        for track in (lane - s, lane + s):
            if street.road[0] < track - 0.25 and track + 0.25 < street.road[1]:
                strip(stage, track - 0.22, track + 0.22, shift(street.asphalt, tone), ROAD, 2.0, 45.0)


def draw_markings(stage: Stage, street: Street, rng: np.random.Generator) -> None:
    """Centre line, edge lines, crossings; the paint is worn to a varying degree."""
    paint = blend((226, 226, 218) if rng.random() < 0.85 else (214, 176, 60), street.asphalt, rng.uniform(0.0, 0.6))
    centre = -street.keep * rng.uniform(1.5, 2.2)
    kind, edges, width = rng.random(3).tolist()
    period = 6.0 if kind < 0.5 else 3.0
    if kind < 0.75:
        phase = rng.random() * period
        z = np.arange(2.0 + phase, 75, period)
        bars(stage, np.stack((0 * z + centre - 0.07, 0 * z + centre + 0.07, z, z + period / 2), axis=1), paint)
    if edges < 0.4:
        for side, edge in enumerate(street.road):
            s = edge - (2 * side - 1) * 0.3
            strip(stage, s - 0.06, s + 0.06, paint, ROAD, 1.0, 90.0)
    if rng.random() < 0.4:
        draw_crossing(stage, street, rng.uniform(6, 26), paint, rng)


def draw_crossing(stage: Stage, street: Street, z: float, paint: Color, rng: np.random.Generator) -> None:
    """Zebra stripes, or a stop line, across the road; sometimes a coloured lane instead."""
    left, right = street.road
    kind = rng.random()
    if kind < 0.6:
        s = np.arange(left + 0.4, right - 0.6, 1.1)
        bars(stage, np.stack((s, s + 0.55, 0 * s + z, 0 * s + z + 3.2), axis=1), paint)
    elif kind < 0.8:
        strip(stage, left, right, paint, ROAD, z, z + 0.5)
    else:
        edge = right if street.keep > 0 else left
        strip(stage, edge, edge - street.keep * 1.3, blend(any_color(rng), street.asphalt, 0.5), ROAD, 1.0, FAR)
