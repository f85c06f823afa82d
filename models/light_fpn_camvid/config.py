model = {
    "type": "segkd.segmentor.Segmentor",
    "network": {"type": "light_fpn", "backbone": "tf_efficientnet_lite2", "num_classes": 11},
}

data = {
    "dataset": {"type": "segkd.datasets.camvid.CamVid", "root": "data/camvid"},
    "train": {"split": "train"},
    "val": {"split": "val"},
    "test": {"split": "test"},
    "augment": {
        "type": "segkd.datasets.transforms.TrainTransform",
        "crop_size": (352, 480),
        "scale": (0.5, 2.0),
        "flip": 0.5,
        "photometric": True,
    },
    "batch_size": 8,
    "workers": 1,
}

optim = {
    "optimizer": {"type": "torch.optim.adamw.AdamW", "lr": 0.001, "weight_decay": 0.01},
    "paramwise": {"custom_keys": {"encoder": {"lr_mult": 0.3}}},
}

schedule = {"val_interval": 125, "warmup": 100, "power": 0.9, "steps": 5000}

engine = {"precision": "auto", "channels_last": True, "ema": 0.999, "val_images": 0, "gradient_interval": 0}

seed = 0
