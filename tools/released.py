"""Write segkd/workbench/released.json, the table of released networks, from the folders in models/."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the checkout, in place of this folder
from segkd.training.build import class_names  # noqa: E402
from segkd.training.configfile import load_config  # noqa: E402
from segkd.workbench.zoo import INT8, TABLE, WEIGHTS  # noqa: E402


def row(folder: Path) -> dict[str, Any]:
    """What the table says of one release."""
    metrics, cfg = json.loads((folder / "metrics.json").read_text()), load_config(folder)
    scored = {one["name"]: one["miou"] for one in metrics["test"]["rows"]}
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    return {
        "name": folder.name,
        "network": metrics["network"],
        "data": metrics["data"],
        "classes": len(class_names(cfg)[0]),
        "miou": round(scored[WEIGHTS], 2),
        "split": "test",
        "int8_miou": round(scored[INT8], 2) if INT8 in scored else None,
        "licence": metrics["licence"],
        "files": files,
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
    }


if __name__ == "__main__":
    rows = [row(path.parent) for path in sorted((ROOT / "models").glob("*/SHA256SUMS"))]
    TABLE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {TABLE}: {len(rows)} networks")
