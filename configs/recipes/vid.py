"""Variational information distillation (Ahn et al. 2019) of the head's last feature.

Weight as for classification; there is none published for segmentation. The teacher's features are brought to an rms of
1, as their variance starts at 5 here; on Cityscapes they are taken as they are.
"""

from segkd.losses.vid import VID

binds = dict(
    information=dict(student="@head", teacher="@head", loss=dict(type=VID), weight=1.0, teacher_scale="auto"),
)
on = dict(cityscapes=dict(binds=dict(information=dict(teacher_scale=None))))
