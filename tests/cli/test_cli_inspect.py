"""``segkd inspect``: every tap on one line, and the shapes of each bind."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

from cli_kit import SYNTHETIC, TAUGHT, Run
from torch import nn

from segkd.binding import Bind
from segkd.models import create
from segkd.workbench.layers import OPTIONS

CONNECT = "dict(student=['fusion','head'], teacher=['encoder.layer2','decoder'], loss=dict(type='at'), size='student')"


def test_layers_stay_on_one_line_and_binds_are_readable(segkd: Run, tmp_path: Path) -> None:
    changes = ["--set", f"model.binds.deep={CONNECT}", "--set", "model.binds.deep.connector.type=conv1x1"]
    changes += ["--set", "model.binds.deep.schedule.warmup=3", "--set", "model.binds.channel.teacher_scale=22"]
    json_file = tmp_path / "inspect.json"
    result = segkd("inspect", *TAUGHT, "--size", "64x96", *changes, "--json", json_file)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("wrote")) <= 100
    layer = next(line for line in lines if line.startswith("global_features.stage2 "))
    assert layer.split() == ["global_features.stage2", "Sequential", "96", "32", "2x3"]
    at = next(k for k, line in enumerate(lines) if line.startswith("bind deep"))
    assert lines[at] == "bind deep: AttentionTransfer, weight 1, connector Conv1x1, schedule (warmup 3), size student"
    assert any(line.startswith("bind channel: ") and ", teacher_scale 22" in line for line in lines)
    assert lines[at + 2].split() == ["student", "fusion", "1x128x8x12", "1x128x8x12"]
    assert lines[at + 3].split() == ["teacher", "encoder.layer2", "1x128x8x12", "1x128x8x12"]
    assert lines[at + 6].split() == ["teacher", "decoder", "1x256x16x24", "1x256x16x24"]
    content = json.loads(json_file.read_text())
    assert [b["bind"] for b in content["binds"]] == ["pixel", "channel", "deep", "deep"]
    assert content["binds"][0]["teacher_met"] == [1, 11, 64, 96]
    assert {x["path"] for x in content["layers"]["student"]} > {"", "fusion", "classifier"}


def test_every_option_of_a_bind_is_shown() -> None:
    told_apart = {"student", "teacher", "loss", "connector", "weight"}
    assert {*OPTIONS, *told_apart} == set(inspect.signature(Bind).parameters)


def test_every_layer_is_shown_unless_a_depth_is_given(segkd: Run) -> None:
    few = segkd("inspect", *SYNTHETIC, "--size", "32x64", "--depth", "2").out.splitlines()
    every = segkd("inspect", *SYNTHETIC, "--size", "32x64").out.splitlines()
    hidden = int(few[0].partition("and ")[2].split()[0])
    assert len(every) == len(few) + hidden
    assert "deeper" not in every[0]
    network = create("fast_scnn", num_classes=11)
    shown = {line.split()[0] for line in every[3:] if line}  # after the title, the heads and the network itself
    layers = {name for name, m in network.named_modules() if name and not isinstance(m, nn.ModuleList)}
    assert shown == {name for name in layers if not name.startswith("preprocess")}
