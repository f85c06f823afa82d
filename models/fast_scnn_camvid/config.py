model = {
    "type": "segkd.distiller.Distiller",
    "student": {"type": "segkd.models.fast_scnn.FastSCNN", "num_classes": 11},
    "teacher": {
        "type": "segkd.models.espnet.ESPNet",
        "num_classes": 12,
        "outputs": 11,
        "published": "camvid",
        "weights": "data/espnet_p_2_q_8_camvid.pth",
    },
    "supervision": {
        "main": {"loss": {"type": "segkd.supervision.CrossEntropy"}},
        "aux_detail": {
            "tap": "learning_to_downsample",
            "head": {"type": "segkd.supervision.AuxHead"},
            "loss": {"type": "segkd.supervision.CrossEntropy"},
            "weight": 0.4,
            "stride": 4,
        },
        "aux_context": {
            "tap": "global_features",
            "head": {"type": "segkd.supervision.AuxHead"},
            "loss": {"type": "segkd.supervision.CrossEntropy"},
            "weight": 0.4,
            "stride": 4,
        },
    },
    "binds": {
        "pixel": {
            "student": "",
            "teacher": "",
            "loss": {"type": "segkd.losses.kd.PixelwiseKD", "temperature": 1.0},
            "weight": 1.0,
            "masked": True,
        },
        "channel": {
            "student": "",
            "teacher": "",
            "loss": {"type": "segkd.losses.cwd.ChannelWise", "temperature": 4.0},
            "weight": 1.0,
            "masked": True,
        },
    },
}

data = {
    "dataset": {"type": "segkd.datasets.camvid.CamVid", "root": "data/camvid"},
    "train": {"split": "train"},
    "val": {"split": "val"},
    "test": {"split": "test"},
    "augment": {
        "type": "segkd.datasets.transforms.TrainTransform",
        "crop_size": (352, 480),
        "scale": (0.75, 2.0),
        "flip": 0.5,
        "photometric": False,
    },
    "batch_size": 8,
    "workers": 1,
}

optim = {"optimizer": {"type": "torch.optim.adamw.AdamW", "lr": 0.008, "weight_decay": 0.01}}

schedule = {"steps": 2750, "val_interval": 275, "warmup": 50, "power": 0.9}

engine = {"precision": "bf16", "channels_last": True}

seed = 0
