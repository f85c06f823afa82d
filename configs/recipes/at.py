"""Attention transfer (Zagoruyko, Komodakis 2017) of the head's last feature.

CIRKD's weight 10000 on a mean over 64 x 128 positions, for this file's sum over them.
"""

from segkd.losses.at import AttentionTransfer

binds = dict(attention=dict(student="@head", teacher="@head", loss=dict(type=AttentionTransfer), weight=1.22))
