"""Class weights 1 / ln(offset + frequency), with the frequencies in the training labels.

Frequencies are of all pixels, as their authors have it, but CGNet's of those that are not void. Cityscapes: the
frequencies behind the weights that ERFNet's authors publish (11.5 % of the pixels are void). CamVid: counted over its
367 training labels (3.9 % void).
"""

# Offset 1.10: ESPNet, ERFNet, DABNet.
cityscapes_weights = [
    2.8149, 6.9850, 3.7891, 9.9425, 9.7705, 9.5108, 10.3112, 10.0264, 4.6323, 9.5608, 7.8700, 9.5165, 10.3734, 6.6615,
    10.2604, 10.2881, 10.2901, 10.4057, 10.1378,
]  # fmt: skip
camvid_weights = [
    4.2053, 3.4828, 9.5963, 2.8715, 7.3919, 5.5550, 9.4413, 9.4784, 6.7905, 9.8910, 10.2081,
]  # fmt: skip

# Offset 1.10, frequencies without void: CGNet.
cityscapes_weights_cgnet = [
    2.6011, 6.7026, 3.5235, 9.8761, 9.6843, 9.3979, 10.2884, 9.9693, 4.3389, 9.4527, 7.6274, 9.4043, 10.3586, 6.3696,
    10.2313, 10.2621, 10.2642, 10.3942, 10.0941,
]  # fmt: skip
camvid_weights_cgnet = [
    4.1112, 3.3982, 9.5630, 2.7980, 7.3049, 5.4540, 9.4029, 9.4412, 6.6961, 9.8676, 10.1971,
]  # fmt: skip

# Offset 1.02: ENet.
cityscapes_weights_enet = [
    3.3609, 14.0222, 4.9874, 39.2425, 36.5078, 32.8914, 46.2857, 40.6909, 6.7007, 33.5444, 18.5168, 32.9650, 47.6681,
    12.6930, 45.2009, 45.7880, 45.8291, 48.4139, 42.7456,
]  # fmt: skip
camvid_weights_enet = [
    5.7921, 4.4402, 34.0208, 3.4469, 15.9126, 9.0203, 32.0133, 32.4770, 13.2066, 38.3910, 44.1281,
]  # fmt: skip

# Offset 1.02, frequencies relative to the highest: LinkNet.
cityscapes_weights_linknet = [
    1.4223, 5.8876, 2.0248, 26.9571, 23.3301, 19.2615, 39.5073, 29.1139, 2.6831, 19.9434, 8.2608, 19.3373, 42.7369,
    5.2511, 37.1843, 38.4200, 38.5083, 44.6204, 32.5087,
]  # fmt: skip
camvid_weights_linknet = [
    2.2748, 1.7784, 20.0843, 1.4223, 6.6717, 3.5331, 18.0232, 18.4814, 5.3555, 25.3820, 34.7165,
]  # fmt: skip
