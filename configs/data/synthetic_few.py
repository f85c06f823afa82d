"""Synthetic streets of which few are labelled: 60 scenes of 128 x 256 with labels, 3,200 others without.

Where labels are dear and images are not, as ever; a teacher is what makes use of the others.
"""

from mmengine.config import read_base

with read_base():
    from .synthetic import *

like = "synthetic"
data["dataset"].update(size=(128, 256), cache=True)
data["train"].update(length=60)
data["augment"].update(crop_size=(128, 256))
data.update(unlabelled=dict(split="train", seed=1, length=3200))
