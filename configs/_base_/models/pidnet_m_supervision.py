"""PIDNet-M's supervision: that of PIDNet-S with a wider boundary head."""

from mmengine.config import read_base

with read_base():
    from .pidnet_s_supervision import supervision

supervision["boundary"]["head"].update(middle=64)
