"""Teachers that are ONNX files, of segkd or of others, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from segkd.deploy.runtimes import METADATA_KEY, open_session
from segkd.errors import UserError, first_line
from segkd.models import Network, Preprocess
from segkd.teachers.programs import (
    PROBE,
    ProgramNetwork,
    checked_logits,
    fixed_size,
    needed_preprocess,
)
from segkd.teachers.programs import load as load_program
from segkd.teachers.sources import kind_of_program

#: element types of an input image that are understood
TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}


class Graph(NamedTuple):
    """An open file: its session, the names of its image and of its logits, what it takes."""

    session: Any
    file: Path
    image: str
    logits: str
    dtype: Any
    batch: int | None
    size: tuple[int, int] | None

    def run(self, x: Tensor) -> Tensor:
        """Logits of images (N, 3, H, W), both on the CPU."""
        try:
            (found,) = self.session.run([self.logits], {self.image: x.cpu().numpy().astype(self.dtype)})
        except Exception as error:  # ONNX Runtime's exceptions share no base but this one
            raise UserError(
                f"{self.file} fails on an image of {x.shape[-2]}x{x.shape[-1]}, batch {len(x)}: {first_line(error)}"
            ) from error
        logits = torch.from_numpy(found)
        return logits.float() if logits.is_floating_point() else logits


class OnnxNetwork(ProgramNetwork):
    """An ONNX file, on the CPU wherever the image is.

    ``preprocess`` passes the image as it is (0..255) where preprocessing is inside the file.
    """

    graph: Graph

    def __init__(self, graph: Graph, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__(num_classes, preprocess, graph.size, graph.batch, graph.dtype is np.uint8)
        vars(self)["graph"] = graph

    def run(self, x: Tensor) -> Tensor:
        logits: Tensor = self.graph.run(x)
        return logits


def load(
    name: str | None, file: Path | None, *, num_classes: int | None, preprocess: Preprocess | None, download: bool
) -> Network:
    """An ONNX file that gives logits (N, K, h, w) of one image (N, 3, H, W), uint8 or float, as a frozen network.

    Of several outputs, the one called "logits" counts, else the first.

    Args:
        name: not used.
        file: the ONNX file; a TorchScript or torch.export file is opened as such.
        num_classes: not used, the file tells.
        preprocess: of a float file that segkd did not write; segkd's say it themselves, and one that takes uint8
            images has it inside.
        download: not used.
    """
    if file is None:
        raise UserError(f"no such file: {name}; an ONNX teacher is onnx:FILE")
    if file.is_file() and kind_of_program(file) is not None:
        return load_program(name, file, num_classes=num_classes, preprocess=preprocess, download=download)
    graph = opened(file)
    said = _metadata(graph)
    found = _preprocess(graph, said, preprocess)
    probe = torch.zeros(graph.batch or 1, 3, *(graph.size or PROBE))
    network = OnnxNetwork(graph, checked_logits(graph.run(probe), file), found)
    network.class_names = said.get("class_names")
    return network


def opened(file: Path) -> Graph:
    """A session for a file, with what it takes and gives."""
    session = open_session(file, torch.get_num_threads())
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        raise UserError(f"{file} must take an image alone; its inputs: {', '.join(i.name for i in inputs)}")
    (image,) = inputs
    shape = [side if isinstance(side, int) else None for side in image.shape]
    if len(shape) != 4 or shape[1] not in (3, None) or image.type not in TYPES:
        raise UserError(
            f"{file} must take an image (N, 3, H, W), uint8 or float; its input {image.name!r} is "
            f"{tuple(image.shape)} {image.type}"
        )
    logits = next((o.name for o in outputs if o.name == "logits"), outputs[0].name)
    size = fixed_size(shape[2], shape[3], file)
    return Graph(session, file, image.name, logits, TYPES[image.type], shape[0], size)


def _metadata(graph: Graph) -> Mapping[str, Any]:
    """What segkd wrote into the file; nothing in one of others."""
    text = graph.session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    content: dict[str, Any] = json.loads(text) if text else {}
    return content


def _preprocess(graph: Graph, said: Mapping[str, Any], stated: Preprocess | None) -> Preprocess:
    """What turns an image into the file's input: stated, said by the file, or nothing where it is inside."""
    own = said.get("preprocess", {})
    inside = own.get("inside", graph.dtype is np.uint8)
    if inside:
        if stated is not None and not _passes(stated):
            raise UserError(
                f"{graph.file} takes images as they are, 0..255: leave out mean, std and scale of preprocess="
            )
        return stated or Preprocess((0, 0, 0), (1, 1, 1), 1.0)
    if stated is not None or not own:
        return needed_preprocess(graph.file, stated)
    channels = "RGB" if list(own["order"]) == [0, 1, 2] else "BGR"
    return Preprocess(own["mean"], own["std"], own["scale"], channels)


def _passes(preprocess: Preprocess) -> bool:
    return not preprocess.mean.any() and bool((preprocess.std == 1).all()) and float(preprocess.scale) == 1
