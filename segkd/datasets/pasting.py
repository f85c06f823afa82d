"""Copy-paste: pixels of a rare class of one crop laid over another, image and label alike."""

from __future__ import annotations

import cv2
import numpy as np

from segkd.datasets.base import Array
from segkd.datasets.crops import RareClasses, draw_pixel

COMPONENT, CLASS = "component", "class"
PASTED = (COMPONENT, CLASS)


def paste(
    image: Array, label: Array, donor: tuple[Array, Array], rare: RareClasses, by: str, generator: np.random.Generator
) -> tuple[Array, Array]:
    """The crop (H, W, 3) and (H, W) with what is drawn of the donor's, of the same size, over it.

    Args:
        rare: draws the class among those that the donor's label has.
        by: "component": the connected pixels (of 8 neighbours) around one of the class; "class": all of the class (as
            Olsson et al., WACV 2021, mix classes).
    """
    value = rare.draw(donor[1], generator)
    if value is None:
        return image, label
    chosen = (donor[1] == value).astype(np.uint8)
    if by == COMPONENT:
        row, column = draw_pixel(donor[1], value, generator)
        _, regions = cv2.connectedComponents(chosen, connectivity=8)
        chosen = (regions == regions[row, column]).astype(np.uint8)
    image, label = image.copy(), label.copy()
    cv2.copyTo(donor[0], chosen, image)
    label[chosen > 0] = value
    return image, label
