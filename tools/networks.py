"""Count all networks anew: writes segkd/models/catalogue.json, which `segkd models` shows, and models/NETWORKS.md."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # the checkout, in place of this folder
from segkd.cli.main import main  # noqa: E402
from segkd.files import replacing  # noqa: E402
from segkd.models.catalogue import TABLE, catalogue  # noqa: E402
from segkd.workbench.networks import describe_network  # noqa: E402

NUM_CLASSES = 19


def write_table() -> None:
    """One network a line, so that a change of one is one line of a diff."""
    rows = [describe_network(label, entry, NUM_CLASSES) for label, entry in catalogue().items()]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    with replacing(TABLE) as temporary:
        temporary.write_text(f'{{"num_classes": {NUM_CLASSES}, "networks": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"wrote {TABLE}")


if __name__ == "__main__":
    write_table()
    sys.exit(main(["models", "--markdown", str(ROOT / "models" / "NETWORKS.md")]))
