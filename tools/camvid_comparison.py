"""Fast-SCNN on CamVid, alone and with one loss at a time from the published ESPNet: one schedule, one seed.

    python tools/camvid_comparison.py --data ../shared/data/camvid --teacher espnet_p_2_q_8_camvid.pth

Trains what the shipped parts compose, each recipe with its shipped weight (but for ``CHANGES``), and scores the last
weights on the test split. Finished trainings are not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from segkd.cli.common import console, read_json
from segkd.cli.train import train_with_progress
from segkd.report.tables import write_json
from segkd.training.build import build_dataset
from segkd.training.environment import environment
from segkd.workbench.comparison import score_model
from segkd.workbench.composing import compose
from segkd.workbench.runs import open_model, open_teacher

LOSSES = (
    "kd",
    "cwd",
    "at",
    "skd",
    "cirkd",
    "dist",
    "af_dcd",
    "af_dcd_as_for_cityscapes",
    "fitnet",
    "mgd",
    "ofd",
    "vid",
)
#: as shipped, CIRKD relates the 2,640 pixels of each image to those of all eight: 10 s a step of a CPU's core
CHANGES: dict[str, dict[str, Any]] = {
    "cirkd": {
        "model.binds.relations.loss.pool": 2,
        "model.binds.relations.loss.pixel_contrast_size": 1024,
        "model.binds.relations.loss.region_contrast_size": 512,
    },
    "af_dcd_as_for_cityscapes": {
        "model.binds.contrast.loss.pool_size": 4,
        "model.binds.contrast.loss.lambda_fd": 33.5,
        "model.binds.contrast.loss.lambda_ocd": 0.08,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CamVid's folder")
    parser.add_argument("--teacher", required=True, help="the published ESPNet weights")
    parser.add_argument("--losses", nargs="*", default=LOSSES, help="names of recipes")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="run folders go here (default: work/camvid_comparison, another for each seed)")
    parser.add_argument("--json", help="default: configs/recipes/results/comparison.json, another for each seed")
    args = parser.parse_args()
    seeded = f"_seed{args.seed}" if args.seed else ""
    args.out = args.out or f"work/camvid_comparison{seeded}"
    args.json = args.json or f"configs/recipes/results/comparison{seeded}.json"
    rows: dict[str, dict[str, Any]] = {}
    for name in ("alone", *args.losses):
        cfg, run = config(name, args), Path(args.out) / name
        trained = train(cfg, run, name)
        models = {"last": open_model(cfg, run / "student_last.pth", args.threads)}
        if name != "alone" and "teacher" not in rows:
            teacher = {"teacher": open_teacher(cfg, args.threads)}
            rows["teacher"] = {f"{split}_miou": score(cfg, teacher, split)["teacher"] for split in ("test", "val")}
        rows[name] = {
            "test_miou": score(cfg, models, "test")["last"],
            "val_miou": round(trained["val_last"]["mIoU"], 2),
        }
        rows[name] |= {"trained_with": trained["git_commit"], "val_curve": curve(run)}
        if name in CHANGES:
            rows[name]["changes"] = CHANGES[name]
    batch = compose("fast_scnn", data="camvid")["data"]["batch_size"]
    earlier = read_json(Path(args.json)) if Path(args.json).is_file() else {}
    if earlier.get("steps") == args.steps:  # rows of another schedule do not stand beside these
        rows = earlier["rows"] | rows
    content = {"steps": args.steps, "batch_size": batch, "seed": args.seed, "checkpoint": "last", "rows": rows}
    write_json(args.json, content | environment(args.seed))
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["test_miou"]):
        console.print(f"| {name} | {row['test_miou']:.2f} | {row['val_miou']:.2f} |")


def config(name: str, args: argparse.Namespace) -> dict[str, Any]:
    overrides = [
        f"data.dataset.root={args.data}",
        f"schedule.steps={args.steps}",
        "schedule.val_interval=300",
        f"engine.threads={args.threads}",
        f"seed={args.seed}",
    ]
    if name == "alone":
        return compose("fast_scnn", data="camvid", overrides=overrides)
    overrides += [f"{key}={value}" for key, value in CHANGES.get(name, {}).items()]
    recipe, teacher = name.removesuffix("_as_for_cityscapes"), f"espnet_q8_camvid@{args.teacher}"
    return compose("fast_scnn", teacher=teacher, recipe=recipe, data="camvid", overrides=overrides)


def train(cfg: dict[str, Any], run: Path, title: str) -> dict[str, Any]:
    if (run / "metrics.json").is_file():
        return read_json(run / "metrics.json")
    return train_with_progress(cfg, run, resume=(run / "state.pth").is_file(), title=title)


def score(cfg: dict[str, Any], models: dict[str, Any], split: str) -> dict[str, float]:
    dataset = build_dataset(cfg, split)
    return {name: round(score_model(model, dataset, workers=1).miou, 2) for name, model in models.items()}


def curve(run: Path) -> dict[str, float]:
    """mIoU on val by step."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {str(r["step"]): round(r["val"]["mIoU"], 2) for r in records if "val" in r}


if __name__ == "__main__":
    main()
