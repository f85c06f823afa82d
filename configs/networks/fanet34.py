"""FANet-34 (Hu et al. 2021): as FANet-18."""

from mmengine.config import read_base

with read_base():
    from .fanet18 import *
