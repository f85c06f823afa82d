"""Time every loss beside its student at CamVid's crop: writes tests/full/loss_costs.json.

    python tools/loss_costs.py --teacher espnet_q8_camvid@FILE --root CAMVID [--only kd,cirkd]

Fast-SCNN is the student. Each loss is as in its recipe; those of logits also at half the size, and at the student's
classifier; cirkd also in cells of 2 x 2. Rows of losses that are not asked for stay. On a busy machine, read
``cpu_ratio``.
"""

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the checkout, in place of this folder
import torch  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from segkd.distiller import Distiller  # noqa: E402
from segkd.evaluation.speed import hardware  # noqa: E402
from segkd.losses import names  # noqa: E402
from segkd.losses.memory import ClassQueue  # noqa: E402
from segkd.report.tables import write_json  # noqa: E402
from segkd.training.environment import git_commit  # noqa: E402
from segkd.workbench.composing import compose  # noqa: E402
from segkd.workbench.term_costs import time_terms  # noqa: E402

TABLE = ROOT / "tests" / "full" / "loss_costs.json"
#: where the student's logits are tapped, and at what size they meet the teacher's
FORMS: dict[str, dict[str, str]] = {
    "full": {},
    "half": {"size": "half"},
    "classifier": {"student": "@classifier"},
}
#: take turns with a student of their own, as each takes longer than all others together
HEAVY = ("af_dcd", "cirkd", "ft", "mgd")


def fill(model: Distiller) -> None:
    """Queues of unit vectors as they are after some steps: full."""
    for queue in model.modules():
        if isinstance(queue, ClassQueue):
            queue.entries.copy_(normalize(torch.randn_like(queue.entries), dim=2))
            queue.filled.fill_(queue.entries.shape[1])


def composed(name: str, teacher: str, root: str) -> dict[str, Any]:
    """The config of a recipe."""
    return compose("fast_scnn", teacher=teacher, recipe=name, data="camvid", root=root)


def binds(name: str, bind: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A bind for each form of a loss, by "name form"."""
    if name == "cirkd":
        pooled = {**bind, "loss": {**bind["loss"], "pool": 2}}
        return {"cirkd__usual": bind, "cirkd__cells_of_2": pooled}
    if bind["student"] != "@logits":
        return {f"{name}__usual": bind}
    return {f"{name}__{form}": {**bind, **options} for form, options in FORMS.items()}


def costs(losses: list[str], repeats: int, teacher: str, root: str) -> list[dict[str, Any]]:
    """Rows of losses that take turns with one student."""
    found, forms = [], {}
    for name in losses:
        cfg = composed(name, teacher, root)
        (bind,) = cfg["model"]["binds"].values()
        forms |= binds(name, bind)
    model = {**cfg["model"], "binds": forms}
    for row in time_terms({**cfg, "model": model}, repeats, fill, lambda *said: print(*said, flush=True)):
        name, _, form = row.pop("bind").partition("__")
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        about = {"date": str(date.today()), "repeats": repeats, **hardware()}
        found.append({"name": name, "form": form.replace("_", " "), **rounded, **about})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--json", default=str(TABLE))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.repeats < 2:
        parser.error("--repeats is at least 2: the table has quartiles")
    torch.set_num_threads(args.threads)
    path = Path(args.json)
    known = {(row["name"], row["form"]): row for row in json.loads(path.read_text())["rows"]} if path.is_file() else {}
    asked = args.only.split(",") if args.only else names()
    for group in [[name for name in asked if name not in HEAVY], *([name] for name in asked if name in HEAVY)]:
        for row in costs(group, args.repeats, args.teacher, args.root) if group else []:
            known[row["name"], row["form"]] = row
            print("{name:22} {form:12} {ms:9.1f} of {student_ms:8.1f} ms  x{ratio:<6} cpu x{cpu_ratio}".format(**row))
        write_json(path, {"rows": [known[key] for key in sorted(known)], "git_commit": git_commit()})


if __name__ == "__main__":
    main()
