"""Channel-wise distillation of the logits (Shu et al. 2021), at the published temperature and weight."""

from segkd.losses.cwd import ChannelWise

binds = dict(
    channel=dict(student="@logits", teacher="@logits", loss=dict(type=ChannelWise, temperature=4.0), weight=3.0),
)
on = dict(cityscapes=dict(binds=dict(channel=dict(student="@classifier", teacher="@classifier"))))
