"""Where everything stands: houses along both sides, furniture and trees on the pavements, traffic, people."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from segkd.datasets._scene.buildings import Block, Building, Style
from segkd.datasets._scene.furniture import Fence, Gantry, Pole, Thing, TrafficLight, TrafficSign
from segkd.datasets._scene.ground import Street
from segkd.datasets._scene.palette import FOLIAGE, WORLD, near, pick
from segkd.datasets._scene.people import Cyclist, Pedestrian
from segkd.datasets._scene.plants import Bush, Hedge, Tree
from segkd.datasets._scene.stage import Stage
from segkd.datasets._scene.vehicles import Vehicle

SIDES = (-1, 1)


class Thingy(Protocol):
    """What a scene is made of; drawn from the largest z to the smallest."""

    @property
    def z(self) -> float: ...

    def cast(self, stage: Stage) -> None: ...

    def draw(self, stage: Stage) -> None: ...


class Layout:
    """Fills one street with objects."""

    def __init__(self, stage: Stage, street: Street, rng: np.random.Generator) -> None:
        self.stage, self.street, self.rng = stage, street, rng
        self.objects: list[Thingy] = []
        self.before: Building | None = None  # the house just placed, if the next one adjoins it

    def build(self) -> list[Thingy]:
        """All objects, farthest first."""
        self.horizon()
        for side in SIDES:
            self.frontage(side)
            self.kerbside(side)
            self.parked(side)
        self.traffic()
        self.people()
        return sorted(self.objects, key=lambda o: -o.z)

    def depth(self, low: float, high: float) -> float:
        """A random distance, near ones more often (even in 1 / z, half of the time)."""
        u = self.rng.random()
        return 1 / (1 / high + u * (1 / low - 1 / high)) if self.rng.random() < 0.5 else low + u * (high - low)

    def at(self, s: float, z: float) -> float:
        return self.stage.street(s, z)

    def style(self) -> Style:
        return Style.random(self.rng, self.stage.light.haze, self.stage.light.night)

    def horizon(self) -> None:
        """Houses and trees that close the view."""
        rng = self.rng
        far = rng.uniform(70, 150)
        x, end = -120.0, 120.0
        middle = self.at(0, far)
        open_end = rng.random() < 0.5
        while x < end:
            w = rng.uniform(14, 34)
            if open_end and abs(x + w / 2 - middle) < 14:
                pass
            elif rng.random() < 0.6:
                self.objects.append(Block(x, x + w, far + rng.uniform(0, 25), rng.uniform(5, 22), self.style()))
            else:
                self.bush(x + w / 2, far + rng.uniform(0, 20), w * 1.2, rng.uniform(4, 12), False)
            x += w
        self.bush(middle, far + 40, 90, rng.uniform(3, 9), False)

    def bush(self, x: float, z: float, width: float, height: float, block: bool) -> None:
        color = near(self.rng, pick(self.rng, FOLIAGE), 0.2)
        self.objects.append(Bush(x, z, width, height, color, block, self.rng.random(5).tolist()))

    def free(self, z0: float, z1: float) -> bool:
        """Whether no side street lies between the two distances."""
        return all(z1 <= a or z0 >= b for a, b in self.street.junctions)

    def frontage(self, side: int) -> None:
        """Houses, gardens and gaps along the outer edge of a pavement."""
        rng = self.rng
        edge = self.street.pavement[(side + 1) // 2]
        built = rng.uniform(0.35, 0.97)
        low, high = sorted(rng.uniform(3.5, 20.0, 2))
        set_back = rng.uniform(2.5, 7.0) if rng.random() < 0.35 else 0.0
        z, self.before = rng.uniform(2.5, 9.0), None
        while z < 110:
            length = rng.uniform(7, 22)
            stop = min([a for a, _ in self.street.junctions if z < a] + [z + length])
            if not self.free(z, z + 0.1):
                z, self.before = next(b for a, b in self.street.junctions if a <= z + 0.1 and z < b) + 0.01, None
                continue
            if stop - z > 3:
                self.plot(side, edge, z, stop, built, (low, high), set_back)
            z = stop

    def plot(
        self, side: int, edge: float, z0: float, z1: float, built: float, heights: tuple[float, float], set_back: float
    ) -> None:
        """One plot of land: a house, with or without a front garden, or a gap with fence and greenery."""
        rng = self.rng
        if rng.random() < built:
            back = set_back if rng.random() < 0.8 else 0.0
            height = rng.uniform(*heights)
            roof = rng.uniform(1.5, 3.5) if height < 11 and rng.random() < 0.6 else 0.0
            house = Building(edge + side * back, z0, z1, side, height, rng.uniform(7, 13), roof, self.style())
            if self.before and self.before.height >= height and side * self.before.s <= side * house.s:
                house.open_end = False
            self.before = house
            self.objects.append(house)
            if back:
                self.garden(side, edge, z0, z1, back)
            return
        self.before = None
        if rng.random() < 0.75:
            self.boundary(side, edge, z0, z1)
        for _ in range(int(1 + 2 * rng.random())):
            s = edge + side * rng.uniform(2.0, 9.0)
            self.tree(s, rng.uniform(z0 + 0.5, z1))
        if rng.random() < 0.5:
            self.bush(self.at(edge + side * 10, z1), z1 - 0.3, 16, rng.uniform(2, 6), False)

    def garden(self, side: int, edge: float, z0: float, z1: float, back: float) -> None:
        if self.rng.random() < 0.75:
            self.boundary(side, edge, z0, z1)
        if self.rng.random() < 0.5:
            self.tree(edge + side * back * 0.5, self.rng.uniform(z0 + 1, z1))

    def tree(self, s: float, z: float) -> None:
        self.objects.append(Tree.random(self.rng, self.at(s, z), z))

    def boundary(self, side: int, edge: float, z0: float, z1: float) -> None:
        """A fence or a hedge along the pavement."""
        rng = self.rng
        if rng.random() < 0.75:
            self.fence(edge, z0, z1, rng.uniform(0.9, 2.1), pick(rng, (0, 0, 1, 2, 3)))
            return
        height, color = rng.uniform(0.8, 2.0), near(rng, pick(rng, FOLIAGE[:7]), 0.2)
        cuts = np.linspace(max(z0, 1.5), z1, max(2, int((z1 - z0) / 6) + 1))
        for a, b in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            x0, x1 = self.at(edge + side * 0.2, a), self.at(edge + side * 0.2, b)
            self.objects.append(Hedge(x0, a, x1, b, height, color, rng.random(12).tolist()))

    def fence(self, s: float, z0: float, z1: float, height: float, kind: int, piece: float = 9.0) -> None:
        """A fence along the street, in pieces that are sorted by depth one by one."""
        rng = self.rng
        color, tone = near(rng, pick(rng, WORLD)), rng.random()
        cuts = np.linspace(max(z0, 1.5), z1, max(2, int((z1 - z0) / piece) + 1))
        for a, b in zip(cuts[:-1], cuts[1:], strict=True):
            self.objects.append(Fence(self.at(s, a), float(a), self.at(s, b), float(b), height, kind, color, tone))

    def kerbside(self, side: int) -> None:
        """Lamp posts, street trees, signs, lights, railings, bollards and clutter between road and houses."""
        rng, k = self.rng, (side + 1) // 2
        kerb, edge = self.street.road[k], self.street.pavement[k]
        s = kerb + side * 0.5
        pitch, z = rng.uniform(11, 30), rng.uniform(4, 20)
        while z < 80 and rng.random() < 0.96:
            self.objects.append(Pole.random(rng, self.at(s, z), z, side))
            z += pitch
        if rng.random() < 0.45:
            for z in np.arange(rng.uniform(5, 14), 75, rng.uniform(8, 18)):
                self.tree(s + side * 0.4, float(z))
        for _ in range(int(rng.random() * 4.5)):
            z = self.depth(4.5, 45)
            self.objects.append(TrafficSign.random(rng, self.at(s + side * rng.uniform(-0.1, 0.8), z), z))
        for _ in range(int(rng.random() * 1.7)):
            z = self.depth(6, 40)
            self.objects.append(TrafficLight.random(rng, self.at(s, z), z, side))
        if rng.random() < 0.28:
            z, overhead = self.depth(9, 40), rng.random() < 0.4
            at = kerb - side * 1.5 if overhead else s + side * 0.8
            self.objects.append(Gantry.random(rng, self.at(at, z), z, overhead))
        if rng.random() < 0.3:
            z = rng.uniform(3, 20)
            self.fence(kerb + side * 0.3, z, z + rng.uniform(6, 25), rng.uniform(0.8, 1.2), pick(rng, (1, 2, 4)), 4.0)
        if rng.random() < 0.25:
            for z in np.arange(rng.uniform(4, 10), rng.uniform(14, 40), rng.uniform(1.5, 3)):
                self.objects.append(Pole.bollard(rng, self.at(kerb + side * 0.35, float(z)), float(z)))
        for _ in range(int(rng.random() * 2.6)):
            z = self.depth(4, 35)
            self.objects.append(Thing.random(rng, self.at(rng.uniform(min(kerb, edge), max(kerb, edge)), z), z))

    def parked(self, side: int) -> None:
        """A row of parked cars with gaps."""
        rng = self.rng
        kerb = self.street.road[(side + 1) // 2]
        if abs(kerb) < 3.3 or rng.random() < 0.4:
            return
        z, share = rng.uniform(4, 16), rng.uniform(0.3, 0.95)
        while z < 65:
            if rng.random() < share and self.free(z, z + 5):
                self.car(kerb - side * 1.15, z, 0.0 if side == self.street.keep else np.pi, 0.03)
            z += rng.uniform(5.4, 7.0)

    def car(self, s: float, z: float, heading: float, wobble: float) -> None:
        turn = 2 * self.stage.camera.bend * z
        x = self.at(s, z)
        self.objects.append(Vehicle.random(self.rng, x, z, heading + turn + self.rng.normal(0, wobble)))

    def traffic(self) -> None:
        """Cars ahead and oncoming, now and then one that crosses; cyclists."""
        rng, keep = self.rng, self.street.keep
        z = self.depth(7, 60)
        while z < 90 and rng.random() < 0.75:
            self.car(rng.normal(0, 0.2), z, 0.0, 0.03)
            z += rng.uniform(8, 40)
        z = rng.uniform(6, 40)
        while z < 100 and rng.random() < 0.75:
            self.car(-keep * rng.uniform(3.0, 3.6), z, np.pi, 0.03)
            z += rng.uniform(7, 35)
        if rng.random() < 0.25:
            z = rng.uniform(12, 40)
            self.car(rng.uniform(-9, 9), z, pick(rng, (-np.pi / 2, np.pi / 2)), 0.25)
        for _ in range(int(rng.random() * 4.2)):
            self.cyclist()

    def cyclist(self) -> None:
        rng, z = self.rng, self.depth(5.5, 30)
        across = rng.random() < 0.45
        left, right = self.street.road
        s = rng.uniform(left, right) if across else (left + 0.7 if rng.random() < 0.5 else right - 0.7)
        self.objects.append(Cyclist.random(rng, self.at(s, z), z, across))

    def people(self) -> None:
        """Pedestrians on both pavements, in groups too, and some who cross the road."""
        rng = self.rng
        for _ in range(int(rng.random() * 8)):
            side = pick(rng, SIDES)
            k, z = (side + 1) // 2, self.depth(5, 45)
            low, high = sorted((self.street.road[k] + side * 0.4, self.street.pavement[k] - side * 0.2))
            s = rng.uniform(low, high)
            if rng.random() < 0.15:
                s, z = rng.uniform(*self.street.road), max(z, 8.0)
            for _ in range(2 if rng.random() < 0.25 else 1):
                self.objects.append(Pedestrian.random(rng, self.at(s, z), z))
                s, z = s + rng.uniform(0.4, 0.7), z + rng.uniform(-0.2, 0.4)
