"""STDC2-Seg (Fan et al. 2021): as STDC1-Seg."""

from mmengine.config import read_base

with read_base():
    from .stdc1 import *
