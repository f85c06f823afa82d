"""What lies beside the file that `segkd ship` chose: all tries as JSON and picture, programs, a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segkd.files import replacing
from segkd.report.front import draw_front
from segkd.report.pictures import write_png
from segkd.report.tables import write_json

Row = Mapping[str, Any]


def write_shipment(
    folder: Path,
    rows: Sequence[Row],
    front: Sequence[Row],
    chosen: Row,
    left_out: Sequence[str],
    texts: Mapping[str, str],
    about: Mapping[str, Any],
) -> None:
    """Write ``front.png``, ``ship.json`` and the texts into a folder, each whole or not at all.

    Args:
        rows, front: all tries, and those than which no other is both faster and better.
        chosen: one of them.
        left_out: names of what the time did not suffice for.
        texts: by the files' names.
        about: on what was measured, and where.
    """
    write_png(folder / "front.png", draw_front(list(rows), list(front), str(chosen["name"])))
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    names = sorted(str(row["name"]) for row in front)
    content = {"chosen": chosen, "front": names, "rows": rows, "left_out": left_out, **about}
    write_json(folder / "ship.json", content)
