"""The published ESPNet (p = 2, q = 8) of CamVid as a teacher: 12 outputs, the last of them void, which is dropped."""

from segkd.models.espnet import ESPNet

teacher = dict(
    type=ESPNet,
    num_classes=12,
    outputs=11,
    published="camvid",
    weights="data/espnet_p_2_q_8_camvid.pth",
)
