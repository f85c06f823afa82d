"""DDRNet-23 (Hong et al. 2021): as DDRNet-23-slim, with a wider auxiliary head."""

from mmengine.config import read_base

with read_base():
    from .ddrnet23_slim import *

supervision["aux"]["head"].update(middle=128)
