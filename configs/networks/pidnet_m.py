"""PIDNet-M (Xu et al. 2023): as PIDNet-S, with a wider boundary head."""

from mmengine.config import read_base

with read_base():
    from .pidnet_s import *

supervision["boundary"]["head"].update(middle=64)
