"""``segkd models`` and ``segkd bench blocks``: the lists, one network, the markdown page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli_kit import Refused, Run

from segkd.models import NETWORKS, names
from segkd.models.catalogue import WRAPPERS, Entry, catalogue, counted
from segkd.models.fast_scnn import FastSCNN
from segkd.report.networks import short_paper
from segkd.workbench.blocks import time_blocks
from segkd.workbench.networks import describe_network, parts_of

FEW = ("fast_scnn", "espnet")
TABLE = counted(19)


#: of each maker one
SAMPLE = (*FEW, "lraspp_mobilenetv3", "light_fpn_mobilenetv2_100", "deeplabv3plus_r18")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting all networks takes a minute."""
    monkeypatch.setattr("segkd.models.catalogue.catalogue", lambda: {name: Entry(name, {}) for name in FEW})


@pytest.mark.parametrize("name", SAMPLE)
def test_the_table_that_is_shipped_is_counted_right(name: str) -> None:
    assert TABLE[name] == json.loads(json.dumps(describe_network(name, catalogue()[name], 19)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_table_is_counted_right() -> None:
    """Otherwise: ``python tools/networks.py``."""
    assert list(TABLE) == list(catalogue())
    for name, entry in catalogue().items():
        assert TABLE[name] == json.loads(json.dumps(describe_network(name, entry, 19)))


def test_the_list_is_read_and_not_counted(segkd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkd.workbench.networks.describe_network", lambda *_: pytest.fail("a network was built"))
    monkeypatch.setattr("segkd.models.catalogue.catalogue", lambda: dict.fromkeys(TABLE))
    result = segkd("models")
    assert result.code == 0, result.err
    assert result.out.startswith(f"{len(TABLE)} networks at 19 classes")


def test_a_network_that_the_table_lacks_is_counted(segkd: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A new file in segkd/models, or a class of someone's own, is listed without being in the table."""
    monkeypatch.setitem(NETWORKS._classes, "aa_new", FastSCNN)
    monkeypatch.setattr("segkd.models.catalogue.counted", lambda _: {k: v for k, v in TABLE.items() if k != "espnet"})
    assert segkd("models", "--json", tmp_path / "models.json").code == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "models.json").read_text())["networks"]}
    assert rows["aa_new"] == TABLE["fast_scnn"] | {"name": "aa_new"}
    assert rows["espnet"] == TABLE["espnet"]


def test_another_number_of_classes_is_counted_anew(segkd: Run, few: None, tmp_path: Path) -> None:
    assert segkd("models", "--num-classes", "11", "--json", tmp_path / "models.json").code == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "models.json").read_text())["networks"]}
    assert rows["fast_scnn"]["parameters"] == TABLE["fast_scnn"]["parameters"] - 8 * 129


def test_every_network_is_listed() -> None:
    assert {e.name for e in catalogue().values()} == set(names()) - {"timm"}
    assert set(names()) - set(WRAPPERS) <= set(catalogue())


def test_the_list_has_cost_taps_and_what_was_published(segkd: Run, few: None, tmp_path: Path) -> None:
    out = tmp_path / "models.json"
    result = segkd("models", "--json", out)
    assert result.code == 0, result.err
    line = next(x for x in result.out.splitlines() if x.startswith("fast_scnn"))
    assert {"1.14", "8", "16", "32", "1902.04502"} <= set(line.split())
    rows = {row["name"]: row for row in json.loads(out.read_text())["networks"]}
    assert rows["espnet"]["parameters"] == 363_462
    assert rows["espnet"]["macs"] == {
        "512x1024": pytest.approx(4.67e9, rel=1e-3),
        "1024x2048": pytest.approx(18.681e9, rel=1e-3),
    }
    assert {"path": "encoder.join2", "channels": 131, "stride": 4} in rows["espnet"]["taps"]


def test_one_network_is_drawn_with_its_shapes(segkd: Run) -> None:
    result = segkd("models", "fast_scnn", "--size", "64x96", "--num-classes", "11")
    assert result.code == 0, result.err
    lines = [line.split() for line in result.out.splitlines()]
    assert ["fusion", "FeatureFusion", "26,752", "8", "128", "x", "8", "x", "12", "*"] in lines
    assert "1,137,019 parameters, input 64x96 (HxW), 11 classes" in result.out
    assert ["@head", "classifier@input"] in lines


def test_one_network_is_shown_with_its_roles(segkd: Run, tmp_path: Path) -> None:
    out = tmp_path / "network.json"
    result = segkd("models", "bisenetv2", "--size", "64x96", "--json", out)
    assert result.code == 0, result.err
    assert re.search(r"^@backbone +semantic\.stage5$", result.out, re.MULTILINE)
    assert re.search(
        r"^@stages +semantic\.stem, semantic\.stage3, semantic\.stage4, semantic\.stage5$", result.out, re.M
    )
    roles = json.loads(out.read_text())["roles"]
    assert roles["logits"] == ""
    assert roles == TABLE["bisenetv2"]["roles"]


def test_strides_of_the_taps_are_the_declared_ones(segkd: Run, tmp_path: Path) -> None:
    """Also where the image is padded first: of 100 rows and columns a stride of 16 gives 8 there."""
    out = tmp_path / "stages.json"
    assert segkd("models", "light_fpn_poolformer_s12", "--size", "100x100", "--json", out).code == 0
    strides = {stage["path"]: stage["stride"] for stage in json.loads(out.read_text())["stages"] if stage["tap"]}
    declared = catalogue()["light_fpn_poolformer_s12"].on_meta(19).feature_info
    assert strides == {tap.path: str(tap.stride) for tap in declared}


def test_a_paper_without_a_number_is_named_by_its_venue() -> None:
    assert short_paper("Romera, Alvarez, Bergasa, Arroyo, IEEE T-ITS 2018") == "IEEE T-ITS 2018"
    assert short_paper("Paszke et al., 2016, arXiv:1606.02147") == "1606.02147"
    assert short_paper("") == "–"


def test_markdown_names_taps_and_configs(segkd: Run, few: None, tmp_path: Path) -> None:
    page = tmp_path / "NETWORKS.md"
    assert segkd("models", "--markdown", page).code == 0
    text = page.read_text()
    assert "| [`espnet`](#espnet) | 0.36 | 4.67 | 18.68 |" in text
    assert "| `encoder.join2` | 131 | 4 |" in text
    section = text.partition("## fast_scnn")[2]
    assert (
        "\nRoles: classifier `classifier`; head `classifier@input`; backbone `global_features.stage3`; stages"
        in section
    )
    assert "Trained as in [`networks/fast_scnn.py`](../configs/networks/fast_scnn.py)." in section.partition("\n## ")[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_in_the_repository_is_what_the_command_writes(segkd: Run, tmp_path: Path) -> None:
    assert segkd("models", "--markdown", tmp_path / "NETWORKS.md").code == 0
    page = Path(__file__).parents[2] / "models" / "NETWORKS.md"
    assert page.read_text() == (tmp_path / "NETWORKS.md").read_text()


def test_a_network_without_a_part_has_its_familys() -> None:
    found = parts_of(catalogue())
    assert found["pspnet"] == found["pspnet_r50"] == "networks/pspnet.py"
    assert found["segformer_b0"] == "networks/segformer.py"
    assert found["light_fpn_mobilenetv4_conv_small"] == "networks/light_fpn.py"
    assert (found["espnet_c"], found["deeplabv3_mobilenetv3"]) == (
        "networks/espnet_c.py",
        "networks/deeplabv3_mobilenetv3.py",
    )


@pytest.mark.slow
def test_the_page_in_the_repository_is_complete() -> None:
    """A network missing, or counted otherwise than in the last full run: ``python tools/networks.py``."""
    root = Path(__file__).parents[2]
    text = (root / "models" / "NETWORKS.md").read_text()
    rows = json.loads((root / "tests/full/networks.json").read_text())
    assert re.findall("^## (.+)$", text, re.MULTILINE) == list(catalogue())
    for name in catalogue():
        cells = next(line for line in text.splitlines() if line.startswith(f"| [`{name}`]")).split(" | ")
        counted = [rows[name]["parameters"] / 1e6, rows[name]["gmacs_512x1024"], rows[name]["gmacs_1024x2048"]]
        assert [float(cell) for cell in cells[1:4]] == pytest.approx(counted, abs=0.0056)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fast_scn"], "unknown network 'fast_scn'; did you mean 'fast_scnn'"),
        (["smp"], "'smp' wraps a library and needs arguments; there is: .*segformer_b0"),
        (["--size", "64x64"], "--size is for one network"),
        (["fast_scnn", "--markdown", "x.md"], "leave NAME out"),
    ],
)
def test_mistakes(refused: Refused, arguments: list[str], message: str) -> None:
    assert re.search(message, refused("models", *arguments))


def test_blocks_are_compared_with_a_standard_convolution(segkd: Run, tmp_path: Path) -> None:
    out = tmp_path / "blocks.json"
    result = segkd("bench", "blocks", "--channels", "16", "--size", "32x64", "--repeats", "2", "--json", out)
    assert result.code == 0, result.err
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    standard = rows["3x3 convolution"]
    assert (standard["parameters"], standard["macs"]) == (9 * 16 * 16 + 32, 9 * 16 * 16 * 32 * 64)
    assert rows["depthwise separable"]["macs"] == (9 * 16 + 16 * 16) * 32 * 64
    assert rows["grouped by 4, shuffled"]["macs_ratio"] == pytest.approx(1 / 4)
    assert rows["asymmetric 3x1, 1x3"]["macs_ratio"] == pytest.approx(2 / 3)
    assert rows["upsampling, pixel shuffle"]["macs"] == 2 * 16 * 4 * 16 * 16 * 32
    assert all(row["latency_ms"] > 0 for row in rows.values())


def test_blocks_need_channels_that_can_be_split(refused: Refused) -> None:
    assert "--channels must be a multiple of 8" in refused("bench", "blocks", "--channels", "20")
    assert "a network has its own" in refused("bench", "--student", "fast_scnn", "--data", "camvid", "--channels", "16")


def test_each_block_keeps_its_channels() -> None:
    rows = time_blocks(16, (32, 32), batch=1, repeats=2)
    assert len(rows) == 25
