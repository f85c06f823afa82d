"""FasterSeg's teacher (Chen et al. 2020): as FasterSeg, with narrower auxiliary heads."""

from mmengine.config import read_base

with read_base():
    from .fasterseg import *

supervision["aux32"]["head"].update(middle=192)
