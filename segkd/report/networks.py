"""The list of networks, for the terminal and as markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from segkd.report.tables import NOTHING

Row = Mapping[str, Any]


def networks_table(rows: Sequence[Row]) -> Table:
    """One network a row: parameters, MACs at both sizes, strides of the taps, published mIoU and FPS, paper."""
    table = Table(box=None, pad_edge=False)
    table.add_column("network", no_wrap=True)
    for title in ("params\n(M)", *(f"GMACs\n{size}" for size in rows[0]["macs"])):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("tap\nstrides", "published mIoU", "published FPS", "paper"):
        table.add_column(title, overflow="fold")
    for row in rows:
        cells = [row["name"], *numbers(row), strides(row), *published(row, ", "), short_paper(row["paper"])]
        table.add_row(*map(escape, cells))
    return table


def networks_markdown(rows: Sequence[Row], num_classes: int, parts: Mapping[str, str]) -> str:
    """A page: the networks, what they cost, where to tap them, what was published, how they are trained."""
    sizes = list(rows[0]["macs"])
    head = [
        "network",
        "parameters (M)",
        *(f"GMACs {size}" for size in sizes),
        "published mIoU",
        "published FPS",
        "paper",
    ]
    lines = [_line(head), _line(["---", *["---:"] * (1 + len(sizes)), "---", "---", "---"])]
    for row in rows:
        cells = [f"[`{row['name']}`](#{row['name']})", *numbers(row), *published(row, "<br>"), row["paper"] or NOTHING]
        lines.append(_line(cells))
    page = [_INTRODUCTION.format(num_classes=num_classes), "".join(lines)]
    page += [_section(row, parts.get(row["name"])) for row in rows]
    return "\n".join(page)


_INTRODUCTION = """# Networks

Written by `python tools/networks.py`; parameters and MACs are counted from the code at {num_classes}
classes, without auxiliary heads. MACs: convolutions and matrix products of one image, height x width. Published
numbers are others', on their hardware, with their source under each network; segkd's own are beside the released
weights in this folder. Taps are named by what they are for under "Roles": a bind may say `@backbone` for any network.
"""


def _section(row: Row, part: str | None) -> str:
    lines = [f"## {row['name']}\n", "\n", _line(["tap", "channels", "stride"]), _line(["---", "---:", "---:"])]
    lines += [_line([f"`{tap['path']}`", str(tap["channels"]), str(tap["stride"])]) for tap in row["taps"]]
    roles = ((role, [paths] if isinstance(paths, str) else paths) for role, paths in row["roles"].items() if paths)
    named = (f"{role} {', '.join(f'`{path}`' for path in paths)}" for role, paths in roles)
    lines.append("\nRoles: " + "; ".join(named) + ".\n")
    if row["results"]:
        lines.append("\nPublished: " + "; ".join(map(describe_result, row["results"])) + ".\n")
    if part:
        lines.append(f"\nTrained as in [`{part}`](../configs/{part}).\n")
    return "".join(lines)


def describe_result(result: Mapping[str, Any]) -> str:
    """One result as text: ``75.4 mIoU on cityscapes val, 39.9 FPS at 1024x2048 on a GTX 1080 Ti (paper)``."""
    text = "" if result["miou"] is None else f"{result['miou']:g} mIoU on {result['dataset']} {result['split']}"
    if result["fps"]:
        text += f"{', ' if text else ''}{result['fps']:g} FPS{_size(result['size'])} on {result['hardware']}"
    return f"{text} ({result['source']})"


def numbers(row: Row) -> list[str]:
    """Parameters in M and MACs in G."""
    return [f"{row['parameters'] / 1e6:.2f}", *(f"{macs / 1e9:.2f}" for macs in row["macs"].values())]


def strides(row: Row) -> str:
    """The strides of the taps, each once."""
    return " ".join(str(s) for s in sorted({tap["stride"] for tap in row["taps"]}))


def published(row: Row, separator: str) -> tuple[str, str]:
    """Published mIoU with data set and split, published FPS with hardware and size; a dash where there is none."""
    miou = [f"{r['miou']:g} {r['dataset']} {r['split']}" for r in row["results"] if r["miou"] is not None]
    fps = [f"{r['fps']:g} {r['hardware']}{_size(r['size'])}" for r in row["results"] if r["fps"]]
    return separator.join(miou) or NOTHING, separator.join(dict.fromkeys(fps)) or NOTHING


def _size(size: Sequence[int] | None) -> str:
    return f" at {size[0]}x{size[1]}" if size else ""


def short_paper(paper: str) -> str:
    """The paper's number on arXiv alone; without one, where it appeared."""
    found = re.search(r"arXiv:(\S+)", paper)
    return found[1] if found else paper.rpartition(", ")[2] or NOTHING


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"
