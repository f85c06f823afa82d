"""Weights files as their authors published them, read strictly under our names with the preprocessing they need.

A further file is one more row of ``CHECKPOINTS``; the first of a network also brings a ``Published``, the small table
of its names and constants, beside that network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segkd.errors import UserError
from segkd.models.base import NETWORKS, Network, Preprocess, apply_weights, is_authors_name
from segkd.models.statedict import read_state_dict


class Published(NamedTuple):
    """The way to read the files that the authors trained on one data set.

    Attributes:
        names: (regular expression of their name, replacement), applied in this order to every tensor's name.
        mean, std, scale, channels: of ``Preprocess``.
        options: values of the network's arguments that differ from its defaults.
    """

    names: Sequence[tuple[str, str]]
    mean: Sequence[float]
    std: Sequence[float]
    scale: float
    channels: str
    options: Mapping[str, Any] = {}

    def preprocess(self) -> Preprocess:
        """The preprocessing the weights were trained with."""
        return Preprocess(self.mean, self.std, self.scale, self.channels)

    def our_name(self, name: str) -> str:
        """The name in our network of a tensor in their file."""
        for pattern, replacement in self.names:
            name = re.sub(pattern, replacement, name)
        return name


def load_published(network: Network, path: str | Path, published: str | None, known: Mapping[str, Published]) -> None:
    """Load a file of ours, or with ``published``, a key of ``known``, the authors' (``authors_name``); both strictly.

    What the authors' file may lack: BatchNorm's step counters (0 is right, momentum is fixed) and our preprocessing.
    """
    tensors = read_state_dict(path)
    if published is None:
        apply_weights(network, tensors, str(path))
        return
    entry = known[published]
    if not any(is_authors_name(network, name) for name in tensors):
        raise UserError(f"{path} has not the names of the files that the authors of {type(network).__name__} published")
    own = {
        name: value
        for name, value in network.state_dict().items()
        if name.startswith("preprocess.") or name.endswith(".num_batches_tracked")
    }
    apply_weights(network, own | {entry.our_name(name): value for name, value in tensors.items()}, str(path))


class Checkpoint(NamedTuple):
    """A file that its authors published.

    Attributes:
        network: registered name.
        options: the network's arguments, beside ``weights`` and ``published``.
        published: which of the network's tables it is read by.
        source: repository, file and licence.
        data: name of the data set.
        note: what else its user must know.
    """

    network: str
    options: Mapping[str, Any]
    published: str
    source: str
    data: str
    note: str = ""

    def load(self, path: str | Path) -> Network:
        """The network in eval, with the file's weights."""
        return NETWORKS.create(self.network, **self.options, published=self.published, weights=path).eval()


def _espnet(network: str, data: str, file: str, options: Mapping[str, Any], note: str = "") -> Checkpoint:
    source = f"github.com/sacmehta/ESPNet, pretrained/{file}.pth, MIT licence"
    return Checkpoint(network, options, data, source, data, note)


def _of_cityscapes(q: int) -> dict[str, Checkpoint]:
    file, options = f"espnet_p_2_q_{q}", {"num_classes": 20, "outputs": 19, "q": q}  # the last output is void
    note = "trained on images of half size: export it with --size 512x1024, and score that file with --resize"
    return {
        f"espnet_q{q}_cityscapes": _espnet(
            "espnet", "cityscapes", f"decoder/{file}", options | {"decoder": "test"}, note
        ),
        f"espnet_c_q{q}_cityscapes": _espnet("espnet_c", "cityscapes", f"encoder/{file}", options, note),
    }


#: name for ``segkd import-weights`` -> the file
CHECKPOINTS = {
    "espnet_q8_camvid": _espnet(
        "espnet", "camvid", "decoder/espnet_p_2_q_8_camvid", {"num_classes": 12, "outputs": 11, "q": 8}
    ),
    **_of_cityscapes(3),
    **_of_cityscapes(5),
    **_of_cityscapes(8),
}
