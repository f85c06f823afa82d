model = {
    "type": "segkd.segmentor.Segmentor",
    "network": {"type": "light_fpn", "backbone": "tf_efficientnet_lite0", "num_classes": 11},
}

data = {
    "dataset": {"type": "segkd.datasets.synthetic.SyntheticStreets", "size": (128, 256), "seed": 0, "cache": True},
    "train": {"split": "train", "length": 6400},
    "val": {"split": "val", "length": 100},
    "test": {"split": "test", "length": 200},
    "augment": {
        "type": "segkd.datasets.transforms.TrainTransform",
        "crop_size": (128, 256),
        "scale": None,
        "flip": 0.5,
        "photometric": False,
    },
    "batch_size": 8,
    "workers": 1,
}

optim = {
    "optimizer": {"type": "torch.optim.adamw.AdamW", "lr": 0.001, "weight_decay": 0.01},
    "paramwise": {"custom_keys": {"encoder": {"lr_mult": 0.3}}},
}

schedule = {"val_interval": 250, "warmup": 80, "power": 0.9, "steps": 4000}

engine = {"precision": "auto", "channels_last": True, "ema": 0.999, "val_images": 0, "gradient_interval": 0}

seed = 0
