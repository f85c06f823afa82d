"""How hard are the synthetic streets: DeepLabV3+-R18 against Fast-SCNN, each at the best of three learning rates.

    python tools/synthetic_difficulty.py --out work/difficulty --json datasets/synthetic/difficulty.json

Six trainings of equal steps, seed, data and batches, from the shipped parts; every training scene is seen once.
Each network's learning rate is chosen on the validation scenes, and the chosen weights (the last ones) are scored once
on 200 held-out test scenes. Finished trainings are not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from segkd.cli.common import console, parse_size, read_json
from segkd.cli.train import train_with_progress
from segkd.report.tables import write_json
from segkd.training.build import build_dataset
from segkd.training.environment import environment
from segkd.workbench.comparison import score_model
from segkd.workbench.composing import compose
from segkd.workbench.runs import open_model

NETWORKS = {"DeepLabV3+-R18": "deeplabv3plus_r18", "Fast-SCNN": "fast_scnn"}
RATES = {"DeepLabV3+-R18": (1e-3, 2e-3, 4e-3), "Fast-SCNN": (1.6e-2, 3.2e-2, 6.4e-2)}
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="work/difficulty")
    parser.add_argument("--json", default="datasets/synthetic/difficulty.json")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--size", type=parse_size, default=(128, 256))
    args = parser.parse_args()
    results = {name: compare_rates(name, args) for name in NETWORKS}
    gap = results["DeepLabV3+-R18"]["test_miou"] - results["Fast-SCNN"]["test_miou"]
    content = {"steps": args.steps, "size": args.size, "batch_size": BATCH, "test_scenes": 200, "gap_miou": gap}
    write_json(args.json, content | {"networks": results} | environment(0))
    console.print(f"DeepLabV3+-R18 is {gap:.2f} mIoU above Fast-SCNN; wrote {args.json}")


def compare_rates(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train at every rate, choose on val, score on test."""
    val = {rate: train_at(name, rate, args)["val_last"]["mIoU"] for rate in RATES[name]}
    best = max(val, key=lambda rate: val[rate])
    cfg = config(name, best, args)
    model = open_model(cfg, folder(name, best, args) / "student_last.pth")
    scores = score_model(model, build_dataset(cfg, "test"), workers=1)
    return {"val_miou": {str(rate): v for rate, v in val.items()}, "learning_rate": best, "test_miou": scores.miou}


def train_at(name: str, rate: float, args: argparse.Namespace) -> dict[str, Any]:
    run = folder(name, rate, args)
    if (run / "metrics.json").is_file():
        return read_json(run / "metrics.json")
    resume = (run / "state.pth").is_file()
    return train_with_progress(config(name, rate, args), run, resume, title=f"{name} lr {rate:g}")


def folder(name: str, rate: float, args: argparse.Namespace) -> Path:
    return Path(args.out) / f"{name}_{rate:g}"


def config(name: str, rate: float, args: argparse.Namespace) -> dict[str, Any]:
    overrides = [
        f"data.dataset.size={args.size}",
        f"data.augment.crop_size={args.size}",
        f"data.train.length={BATCH * args.steps}",
        f"data.batch_size={BATCH}",
        f"schedule.steps={args.steps}",
        "schedule.val_interval=500",
        f"optim.optimizer.lr={rate}",
    ]
    return compose(NETWORKS[name], data="synthetic", overrides=overrides)


if __name__ == "__main__":
    main()
