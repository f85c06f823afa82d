"""Time every loss beside its student at CamVid's crop: writes tests/full/loss_costs.json.

    python tools/loss_costs.py [--only kd,cirkd] [--repeats 15] [--threads 2]

Each loss has its usual taps (configs/distill/camvid), those of logits also half the size, and the student's classifier.
"""

import argparse
import sys
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the checkout, in place of this folder
import torch  # noqa: E402

from segkd.distiller import Distiller  # noqa: E402
from segkd.losses import names  # noqa: E402
from segkd.losses.memory import ClassQueue  # noqa: E402
from segkd.report.tables import write_json  # noqa: E402
from segkd.training.configfile import load_config  # noqa: E402
from segkd.training.environment import environment  # noqa: E402
from segkd.workbench.term_costs import time_terms  # noqa: E402

TABLE = ROOT / "tests" / "full" / "loss_costs.json"
#: where the student's logits are tapped, and at what size they meet the teacher's
FORMS: dict[str, dict[str, str]] = {
    "full": {},
    "half": {"size": "half"},
    "classifier": {"student": "classifier"},
}


def fill(model: Distiller) -> None:
    """Queues of vectors as they are after some steps: full."""
    for queue in model.modules():
        if isinstance(queue, ClassQueue):
            torch.nn.init.normal_(queue.entries)
            queue.filled.fill_(queue.entries.shape[1])


def costs(name: str, repeats: int) -> list[dict[str, Any]]:
    """A row for each form of a loss."""
    cfg = load_config(f"distill/camvid/fast_scnn_{name}")
    (bind,) = cfg["model"]["binds"].values()
    forms = FORMS if bind["student"] == "" else {"usual": {}}
    found = []
    for form, options in forms.items():
        changed = {**cfg["model"], "binds": {name: {**bind, **options}}}
        (row,) = time_terms({**cfg, "model": changed}, repeats, fill)
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        found.append(rounded | {"form": form, "date": str(date.today())})
        print("{bind:22} {form:10} {ms:8.1f} of {student_ms:8.1f} ms  x{ratio:<6} cpu x{cpu_ratio}".format(**found[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--json", default=str(TABLE))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.only.split(",") if args.only else names():
        rows += costs(name, args.repeats)
        write_json(args.json, {"repeats": args.repeats, "rows": rows, **environment(0)})


if __name__ == "__main__":
    main()
