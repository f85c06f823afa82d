"""Augmentation of training pairs: random scale, padding, crop, flip and colours, fixed by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from segkd import arguments
from segkd.datasets.base import Array
from segkd.datasets.colours import COLOURS, UNCHANGED, jitter
from segkd.datasets.crops import RareClasses, choose_cut, cut_of
from segkd.datasets.cutting import MEAN_COLOUR, Cut, cut_image, cut_label, draw_coin, draw_scaled
from segkd.datasets.own_steps import apply_steps, own_steps
from segkd.datasets.pasting import PASTED
from segkd.datasets.pasting import paste as lay_over
from segkd.datasets.seeds import mix_seed
from segkd.errors import UserError, nearest
from segkd.registry import Described
from segkd.views import View

__all__ = ["COLOURS", "MEAN_COLOUR", "Made", "TrainTransform", "one_change"]

OWNER = "TrainTransform"
RARE, PASTE, EXTRA = 1, 2, 3  # what is drawn from (seed, this), so that no option changes what the others draw
Partner = Callable[[int], tuple[Array, Array]]


class Made(NamedTuple):
    """A crop (H, W, C), its label (H, W), and where it lies on its image."""

    image: Array
    label: Array
    view: View


class TrainTransform(Described):
    """Random scale (aspect kept), padding where the crop is larger, random crop, mirror, colours.

    The result depends on the arguments and the ``seed`` of the call alone, not on worker, global generators or order.
    Images are resized linearly, labels by nearest neighbour; padding is ImageNet's mean colour and label 255 = ignore.
    Its pixels are those of albumentations 2.0.8 with the same draws.

    Args:
        crop_size: (H, W) of the result.
        scale: smallest and largest factor, uniform in between; None for no scaling.
        flip: probability of a left-right mirror.
        photometric: vary brightness, contrast, saturation and hue; of more than three bands, those of the first three.
        max_class_share: share that no class may have of a crop's pixels that are not void; after 10 crops in which one
            has, the next is taken (0.75 in mmsegmentation's configs; 1: any crop).
        rare_share: share of the crops that have a pixel of a rare class in their middle. It is one of the image's own
            classes, the rarer in the training labels the likelier.
        rare_temperature: the smaller, the more the rarest class of an image is preferred.
        class_share: share of each class in the pixels of the training labels; counted before the training by default.
        paste: probability that pixels of a rare class of another image's crop are laid over a crop.
        paste_by: what is laid over: a connected "component", or the "class", all of its pixels.
        extra: further steps on crops, last: `[dict(type="albumentations.GaussianBlur", p=0.3)]`, of albumentations or
            `torchvision.transforms.v2`, or anything that is called as `step(image, label, seed)`.
    """

    def __init__(
        self,
        crop_size: Sequence[int],
        scale: Sequence[float] | None = (0.5, 2.0),
        flip: float = 0.5,
        photometric: bool = True,
        max_class_share: float = 1.0,
        rare_share: float = 0.0,
        rare_temperature: float = 0.01,
        class_share: Sequence[float] | None = None,
        paste: float = 0.0,
        paste_by: str = "component",
        extra: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        _check(crop_size, scale, flip)
        self.crop_size = (int(crop_size[0]), int(crop_size[1]))
        self.scale, self.flip, self.photometric = scale, flip, arguments.flag(photometric, "photometric", OWNER)
        self.max_class_share = arguments.number(max_class_share, "max_class_share", OWNER, above=0, most=1)
        self.rare_share = arguments.number(rare_share, "rare_share", OWNER, least=0, most=1)
        self.temperature = arguments.number(rare_temperature, "rare_temperature", OWNER, above=0)
        self.paste = arguments.number(paste, "paste", OWNER, least=0, most=1)
        if paste_by not in PASTED:
            raise UserError(f"TrainTransform paste_by cannot be {paste_by!r}; {nearest(str(paste_by), PASTED)}")
        self.paste_by = paste_by
        self.extra = own_steps(extra)
        self.rare: RareClasses | None = None
        self.partner: Partner | None = None
        if class_share is not None:
            self.learn(arguments.numbers(class_share, "class_share", OWNER, least=0))

    def learn(self, class_share: Sequence[float]) -> None:
        """Take the share of each class in the training labels."""
        self.rare = RareClasses(class_share, self.temperature)

    @property
    def needs_class_share(self) -> bool:
        """What is rare has yet to be said, by ``learn``."""
        return self.rare is None and bool(self.rare_share or self.paste)

    def check_still(self) -> None:
        """A UserError if it is not known where the pixels of a crop lie on its image."""
        moving = [step.name for step in self.extra if step.moves]
        if moving or self.paste:
            what = f"extra ({moving[0]})" if moving else "paste"
            raise UserError(
                f"data.augment.{what} moves pixels to where no teacher looks for them that sees whole images, or whose "
                "answers are kept: leave it out, or let the teacher see the crops (teacher_view=crop)"
            )

    def __call__(self, image: Array, label: Array, seed: int) -> tuple[Array, Array]:
        """A pair (h, w, C) uint8 and (h, w) uint8 as one of (H, W, C) and (H, W), drawn from ``seed``."""
        return self.with_view(image, label, seed)[:2]

    def with_view(
        self, image: Array, label: Array, seed: int, *, labelled: bool = True, partner: Partner | None = None
    ) -> Made:
        """The same, and where the result lies on the image.

        Args:
            labelled: the label says something: what goes by classes takes place.
            partner: a seed -> another pair, whose pixels ``paste`` may lay over; by default the attribute's.
        """
        made = self._crop(image, label, seed, self.rare_share if labelled else 0.0, labelled)
        crop, mask = made.image, made.label
        if labelled and self.paste:
            crop, mask = self._pasted(crop, mask, seed, partner or self.partner)
        if self.photometric:  # after the crop: fewer pixels to change
            crop = jitter(crop, self._seeds(seed)[3])
        if self.extra:
            crop, mask = apply_steps(self.extra, crop, mask, mix_seed(seed, EXTRA))
        return Made(crop, mask, made.view)

    def _crop(self, image: Array, label: Array, seed: int, rare_share: float, labelled: bool = True) -> Made:
        """The pair resized, cut and mirrored."""
        scaling, placing, mirroring, _ = self._seeds(seed)
        scaled, generator = draw_scaled(image.shape, self.scale, scaling), random.Random(placing)
        cut = cut_of(image.shape, scaled, self.crop_size, generator, draw_coin(self.flip, mirroring))
        if labelled and (rare_share or self.max_class_share < 1):
            label = label[: label.shape[0], : label.shape[1]]  # all of it, of one that comes by rows
            cut = self._choose(label, cut, generator, seed, rare_share)
        return Made(cut_image(image, cut), cut_label(label, cut), cut.view())

    def _choose(self, label: Array, cut: Cut, generator: random.Random, seed: int, rare_share: float) -> Cut:
        chooser = np.random.default_rng(mix_seed(seed, RARE))
        rare = self._known() if chooser.random() < rare_share else None
        return choose_cut(label, cut, generator, self.max_class_share, rare, chooser)

    def _pasted(self, image: Array, label: Array, seed: int, partner: Partner | None) -> tuple[Array, Array]:
        """The crop with a rare class of another image's crop, that has one in its middle, laid over it."""
        chooser = np.random.default_rng(mix_seed(seed, PASTE))
        if not chooser.random() < self.paste:
            return image, label
        if partner is None:
            raise UserError("TrainTransform paste takes pixels of another image: only a training's loader has one")
        own = mix_seed(seed, PASTE, 0)
        donor = self._crop(*partner(own), own, 1.0)
        return lay_over(image, label, donor[:2], self._known(), self.paste_by, chooser)

    def _known(self) -> RareClasses:
        if self.rare is None:
            raise UserError("TrainTransform needs class_share, the share of each class, to know which are rare")
        return self.rare

    def _seeds(self, seed: int) -> list[int]:
        """One for each step: with one for all of them, large scales would mean low crops."""
        found = [int(one) for one in np.random.SeedSequence(seed).generate_state(4)]
        return found if self.scale is not None else [0, *found[:3]]  # without a scale, what it would draw is the place


def one_change(
    scale: float | None = None, colours: Sequence[str] = (), mirror: bool = False
) -> Callable[[Array, Array, int], tuple[Array, Array]]:
    """A part of what ``TrainTransform`` does, alone and to every image, which is neither padded nor cut.

    Args:
        scale: the factor of the size.
        colours: which of ``COLOURS`` vary, drawn from the seed of the call.
        mirror: left to right.
    """
    for name in colours:
        if name not in COLOURS:
            raise UserError(f"TrainTransform varies no {name!r}; {nearest(name, COLOURS)}")
    if scale is not None:
        _check((1, 1), (scale, scale), 0)
    ranges = {**UNCHANGED, **{name: COLOURS[name] for name in colours}}

    def change(image: Array, label: Array, seed: int) -> tuple[Array, Array]:
        scaled = draw_scaled(image.shape, None if scale is None else (scale, scale), 0)
        cut = Cut((image.shape[0], image.shape[1]), scaled, 0, 0, scaled, mirror)
        steps = (scale is not None) + mirror  # each has a seed, in order
        own = int(np.random.SeedSequence(seed).generate_state(steps + 1)[steps])
        return jitter(cut_image(image, cut), own, ranges, 1.0), cut_label(label, cut)

    return change


def _check(crop: Sequence[int], scale: Sequence[float] | None, flip: float) -> None:
    if len(crop) != 2 or min(crop) < 1 or any(side != int(side) for side in crop):
        raise UserError(f"TrainTransform crop_size must be whole (height, width) of at least 1, got {tuple(crop)}")
    if scale is not None and (len(scale) != 2 or not 0 < scale[0] <= scale[1]):
        raise UserError(f"TrainTransform scale must be (smallest, largest) above 0, got {tuple(scale)}")
    if not 0 <= flip <= 1:
        raise UserError(f"TrainTransform flip is a probability in 0..1, got {flip}")
