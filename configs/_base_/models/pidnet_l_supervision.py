"""PIDNet-L's supervision: that of PIDNet-S with wider heads."""

from mmengine.config import read_base

with read_base():
    from .pidnet_s_supervision import supervision

supervision["detail"]["head"].update(middle=256)
supervision["boundary"]["head"].update(middle=64)
