"""PIDNet-L (Xu et al. 2023): as PIDNet-S, with wider heads; no CamVid recipe is published for this size."""

from mmengine.config import read_base

with read_base():
    from .pidnet_s import *

supervision["detail"]["head"].update(middle=256)
supervision["boundary"]["head"].update(middle=64)
