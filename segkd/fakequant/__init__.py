"""Fake quantisation: a network that rounds values and weights as an int8 file does, while it is trained."""

from segkd.fakequant.module import FAKE_QUANT as FAKE_QUANT
from segkd.fakequant.module import FakeQuant as FakeQuant
from segkd.fakequant.module import Range as Range
from segkd.fakequant.module import Rounding as Rounding
from segkd.fakequant.module import attach as attach
from segkd.fakequant.module import detach as detach
from segkd.fakequant.module import split_tensors as split_tensors
