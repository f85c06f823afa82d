"""DDRNet-23's supervision: that of DDRNet-23-slim with a wider head."""

from mmengine.config import read_base

with read_base():
    from .ddrnet23_slim_supervision import supervision

supervision["aux"]["head"].update(middle=128)
