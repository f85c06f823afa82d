"""Release a trained network: ``python tools/release.py NAME RUN``; alone, write the table of releases anew.

A release is ``models/NAME``: the run's config, its last weights (float16 where they are matrices), an int8 file that is
calibrated on training images, and the scores of both on val and test. Its card, README.md, is written by hand.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the checkout, in place of this folder
from segkd.cli.common import parse_size, words  # noqa: E402
from segkd.report.tables import write_json  # noqa: E402
from segkd.training.build import build_dataset, class_names  # noqa: E402
from segkd.training.configfile import dump_config, load_config  # noqa: E402
from segkd.training.environment import environment  # noqa: E402
from segkd.training.state import LAST  # noqa: E402
from segkd.workbench.comparison import evaluate_models  # noqa: E402
from segkd.workbench.deployment import export_run, quantize_run  # noqa: E402
from segkd.workbench.runs import open_models  # noqa: E402
from segkd.workbench.zoo import INT8, TABLE, WEIGHTS  # noqa: E402

CARD, CONFIG, METRICS, SUMS = "README.md", "config.py", "metrics.json", "SHA256SUMS"


def release(args: argparse.Namespace) -> None:
    """Write a release's files but its card."""
    folder = ROOT / "models" / args.name
    folder.mkdir(exist_ok=True)
    cfg = load_config(args.run)
    torch.save(small(torch.load(args.run / args.weights, weights_only=True)), folder / WEIGHTS)
    with tempfile.TemporaryDirectory() as beside:
        whole = Path(beside) / "student.onnx"
        export_run(cfg, folder / WEIGHTS, args.size, whole)
        quantize_run(cfg, whole, folder / INT8, images=args.images, improve=args.improve)
    files = {name: folder / name for name in (WEIGHTS, INT8)}
    (folder / SUMS).write_text("".join(f"{digest(path)}  {name}\n" for name, path in files.items()))
    models = open_models(cfg, list(files.values()))
    scored = {}
    for split, size in (("val", None), ("test", args.size)):
        dataset = build_dataset(cfg, split)
        rows = evaluate_models(models, dataset, size, workers=1)
        for row, name in zip(rows, files, strict=True):
            row["name"] = name
        scored[split] = {"images": len(dataset), "rows": rows}
        print(split, [round(row["miou"], 2) for row in rows])
    trained = json.loads((args.run / METRICS).read_text())
    said = {"network": args.network, "data": args.data, "licence": args.licence, "training": trained | args.training}
    write_json(folder / METRICS, {**said, **scored, **environment(cfg.get("seed"))})
    dump_config({**cfg, **_public(cfg, args.root)}, folder / CONFIG)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(folder / CONFIG)], check=True)


def small(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices and kernels in float16; what has fewer dimensions, such as a BatchNorm's, as it is."""
    return {
        key: value.half() if value.is_floating_point() and value.ndim > 1 else value for key, value in tensors.items()
    }


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _public(cfg: Mapping[str, Any], root: str | None) -> dict[str, Any]:
    """What the config says of places on one machine, as a user has them."""
    model, data = dict(cfg["model"]), dict(cfg["data"])
    for part in ("network", "student"):
        if "pretrained" in model.get(part, {}):
            model[part] = {key: value for key, value in model[part].items() if key != "pretrained"}
    if root is not None:
        data["dataset"] = {**data["dataset"], "root": root}
    return {"model": model, "data": data}


def row(folder: Path) -> dict[str, Any]:
    """What the table says of one release."""
    metrics, cfg = json.loads((folder / METRICS).read_text()), load_config(folder)
    scored = {one["name"]: one["miou"] for one in metrics["test"]["rows"]}
    return {
        "name": folder.name,
        "network": metrics["network"],
        "data": metrics["data"],
        "classes": len(class_names(cfg)[0]),
        "miou": round(scored[WEIGHTS], 2),
        "split": "test",
        "int8_miou": round(scored[INT8], 2) if INT8 in scored else None,
        "licence": metrics["licence"],
        "files": {path.name: digest(path) for path in sorted(folder.iterdir())},
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="write a release into models/, and the table of all releases")
    parser.add_argument("name", nargs="?", help="of the release; without, only the table is written")
    parser.add_argument("run", nargs="?", type=Path, help="run folder")
    parser.add_argument("--weights", default=LAST, help=f"file in it ({LAST})")
    parser.add_argument("--size", type=parse_size, help="HxW of the int8 file, and to time at")
    parser.add_argument("--images", type=int, default=32, help="to calibrate with (32)")
    parser.add_argument("--improve", type=words, default=("bias",), help="as in `segkd quantize` (bias)")
    parser.add_argument("--network", help="its name in `segkd models`")
    parser.add_argument("--data", help="data set and size of its images, in a few words")
    parser.add_argument("--licence", help="of the data, in a few words")
    parser.add_argument("--root", help="of the data set, as a user has it")
    parser.add_argument(
        "--training", type=json.loads, default={}, help="JSON: what else there is to say of the training"
    )
    return parser.parse_args()


if __name__ == "__main__":
    args = arguments()
    if args.name:
        release(args)
    rows = [row(path.parent) for path in sorted((ROOT / "models").glob(f"*/{SUMS}"))]
    TABLE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {TABLE}: {len(rows)} networks")
