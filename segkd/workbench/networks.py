"""Every network with what it costs and what was published of it, and one network stage by stage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from segkd.models import catalogue as known
from segkd.workbench import Progress, Row, silent

if TYPE_CHECKING:  # torch is imported where a network is built: most lists are read from the shipped table
    from segkd.inspection import LayerInfo
    from segkd.models import Network

SIZES = ((512, 1024), (1024, 2048))


def describe_networks(num_classes: int, progress: Progress = silent) -> list[Row]:
    """A row for each network: of the shipped table, or counted where that has none (half a second or more each)."""
    entries, table = known.catalogue(), known.counted(num_classes)
    rows = []
    for label, entry in entries.items():
        rows.append(table.get(label) or describe_network(label, entry, num_classes))
        progress("counting", len(rows), len(entries))
    return rows


def describe_network(label: str, entry: known.Entry, num_classes: int) -> Row:
    """The row of one network, counted on the meta device: parameters, MACs, taps, roles, published results."""
    import torch

    from segkd.evaluation.speed import count_macs, count_parameters
    from segkd.roles import roles_of

    network = entry.on_meta(num_classes)
    with torch.device("meta"):
        macs = {f"{h}x{w}": count_macs(network, (h, w)) for h, w in SIZES}
    return {
        "name": label,
        "kind": entry.kind,
        "parameters": count_parameters(network),
        "macs": macs,
        "taps": [info._asdict() for info in network.feature_info],
        "roles": roles_of(network),
        "paper": network.paper,
        "results": [result._asdict() for result in network.results],
    }


def parts_of(labels: Iterable[str]) -> dict[str, str]:
    """label -> file of the part with what was published for this network or its family; only those that have one."""
    from segkd.workbench.composing import NETWORK, part_of

    found = {label: part_of(label) for label in labels}
    return {label: f"{NETWORK}/{name}.py" for label, name in found.items() if name is not None}


class Stages(NamedTuple):
    """One network: its paper, its published results, its parameters, a row for each stage, and the tap of each role."""

    paper: str
    results: list[dict[str, Any]]
    parameters: int
    stages: list[Row]
    roles: dict[str, str | list[str]]


def network_stages(label: str, num_classes: int, size: tuple[int, int]) -> Stages:
    """A network drawn for images of ``size`` (H, W): its children that give maps, as they finish, and every tap."""
    import torch

    from segkd.evaluation.speed import count_parameters
    from segkd.inspection import describe_layers
    from segkd.roles import roles_of
    from segkd.segmentor import probe_input

    network = known.entry(label).on_meta(num_classes)
    with torch.device("meta"):
        layers = describe_layers(network, probe_input(network, size))
    results = [result._asdict() for result in network.results]
    stages = _stages(network, layers)
    return Stages(network.paper, results, count_parameters(network), stages, roles_of(network))


def _stages(network: Network, layers: list[LayerInfo]) -> list[Row]:
    from segkd.evaluation.speed import count_parameters

    taps = {info.path: info.stride for info in network.feature_info}
    maps = [x for x in layers if len(x.shape) == 4 and x.shape[1]]  # smp has children that give empty ones
    shown = [x for x in maps if x.path in taps or (x.path.count(".") == 0 and x.path not in ("", "preprocess"))]
    return [
        {
            "path": x.path,
            "type": x.type,
            "parameters": count_parameters(network.get_submodule(x.path.partition("#")[0].partition(":")[0])),
            "stride": "" if x.stride is None else f"{taps.get(x.path, x.stride):g}",
            "shape": x.shape,
            "tap": "*" if x.path in taps else "",
        }
        for x in shown
    ]
