"""``segkd import-weights``: the authors' file in, ours out, with the scores that the authors' code gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cli_kit import Refused, Run
from published import espnet_names, random_backbone

from segkd.models import create, load_weights
from segkd.models.espnet import PUBLISHED
from segkd.models.published import CHECKPOINTS
from segkd.models.published_backbones import BACKBONES

WEIGHTS = Path(__file__).resolve().parents[3] / "shared/data/weights/espnet_p_2_q_8_camvid.pth"
CAMVID = ("--student", "espnet", "--data", "camvid", "--set", "model.network.num_classes=12")


@pytest.fixture
def theirs() -> Path:
    if not WEIGHTS.is_file():
        pytest.skip("the published ESPNet weights are not beside the checkout (../shared/data/weights)")
    return WEIGHTS


def test_what_is_known(segkd: Run) -> None:
    lines = segkd("import-weights").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*CHECKPOINTS, *BACKBONES]
    assert all(("github.com/" in line or "package" in line) and "licence" in line for line in lines[1:])


def test_the_file_of_ours_is_the_same_network(segkd: Run, theirs: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/espnet.pth"
    result = segkd("import-weights", "espnet_q8_camvid", theirs, "--out", out)
    assert result.code == 0, result.err
    assert "354,517 parameters, 11 of 12 outputs" in result.out
    entry = CHECKPOINTS["espnet_q8_camvid"]
    ours = create(entry.network, **entry.options).eval()
    load_weights(ours, out)  # strict, with the constants of the preprocessing
    image = torch.randint(0, 256, (1, 3, 40, 56), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(ours.predict(image), entry.load(theirs).predict(image))
    command = next(line for line in result.out.splitlines() if "segkd eval" in line).split()
    assert command[2:7] == ["--student", entry.network, "--data", entry.data, str(out)]
    assert {"model.network.num_classes=12", "model.network.outputs=11"} <= set(command)


def test_a_backbone_starts_a_network(segkd: Run, refused: Refused, tmp_path: Path) -> None:
    """Random tensors in the published order; the command that is printed builds the network."""
    random_backbone("efficientnet_lite0_imagenet", tmp_path / "theirs.pth")
    result = segkd("import-weights", "efficientnet_lite0_imagenet", "theirs.pth", "--out", "lite0.pth")
    assert result.code == 0, result.err
    assert "tf_efficientnet_lite0 of timm, ImageNet, 296 tensors" in result.out
    override = next(line for line in result.out.splitlines() if "--set" in line).split()[1]
    key, _, file = override.partition("=")
    assert key == "model.network.pretrained"
    network = create("light_fpn", num_classes=3, backbone="tf_efficientnet_lite0", pretrained=file)
    assert network.preprocess.mean.tolist() == [127, 127, 127]
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    assert "has not the names" in refused(
        "import-weights", "efficientnet_lite0_imagenet", "other.pth", "--out", "a.pth"
    )
    assert "or 'efficientnet_lite0_imagenet'" in refused(
        "import-weights", "efficientnet_lite_imagenet", "other.pth", "--out", "a.pth"
    )
    assert not (tmp_path / "a.pth").exists()


@pytest.mark.parametrize("name", list(CHECKPOINTS))
def test_every_file_known_can_be_read(name: str, tmp_path: Path) -> None:
    """Random tensors under the authors' names."""
    entry = CHECKPOINTS[name]
    own = create(entry.network, **entry.options).state_dict()
    encoder = entry.network == "espnet_c"
    file, theirs = tmp_path / "theirs.pth", {}
    for written in espnet_names(2, entry.options["q"]):
        ours = PUBLISHED[entry.published].our_name(written)
        if ours.startswith("encoder.") or not encoder:
            theirs[written.removeprefix("encoder.") if encoder else written] = torch.rand_like(own[ours])
            own[ours] = theirs[written.removeprefix("encoder.") if encoder else written]
    torch.save(theirs, file)
    loaded = entry.load(file).state_dict()
    assert set(loaded) == set(own)
    assert all(torch.equal(loaded[key], v) for key, v in own.items() if "preprocess" not in key)
    assert (loaded["preprocess.scale"], loaded["preprocess.order"].tolist()) == (1, [2, 1, 0])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("options", "miou"),
    [
        (["--set", "model.network.outputs=11"], 57.12),
        (["--set", "model.network.outputs=12", "--void-output"], 57.05),
        (["--set", "model.network.outputs=12", "--void-output", "--count-void"], 55.54),
    ],
)
def test_scores_of_the_authors_code(
    options: Sequence[str], miou: float, segkd: Run, theirs: Path, camvid_root: Path, tmp_path: Path
) -> None:
    """Of their repository's weights on the same 233 images: without void, with it as an output, and counted."""
    assert segkd("import-weights", "espnet_q8_camvid", theirs, "--out", "espnet.pth").code == 0
    command = [*CAMVID, *options, "--root", camvid_root, "--split", "test", "--no-speed", "--json", "scores.json"]
    result = segkd("eval", "espnet.pth", *command)
    assert result.code == 0, result.err
    content = json.loads((tmp_path / "scores.json").read_text())
    assert (content["images"], len(content["rows"])) == (233, 1)
    assert content["rows"][0]["miou"] == pytest.approx(miou, abs=0.1)


def test_void_needs_the_output_that_is_void(segkd: Run, refused: Refused, theirs: Path, camvid_root: Path) -> None:
    segkd("import-weights", "espnet_q8_camvid", theirs, "--out", "espnet.pth")
    command = ["eval", "espnet.pth", *CAMVID, "--root", camvid_root, "--no-speed", "--set"]
    assert "predicts 12 classes, but CamVid has 11" in refused(*command, "model.network.outputs=12")
    assert "predicts 11 classes, but CamVid has 11 and void" in refused(
        *command, "model.network.outputs=11", "--void-output"
    )


def test_mistakes_leave_no_file(refused: Refused, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    known = "espnet_q8_camvid"
    assert "did you mean 'espnet_q8_camvid'" in refused("import-weights", "espnet_q8_camvit", other, "--out", "a.pth")
    assert "name the published file" in refused("import-weights", known, other)
    assert "no such weights file" in refused("import-weights", known, "nowhere.pth", "--out", "a.pth")
    assert "ends in .pth" in refused("import-weights", known, other, "--out", "a.bin")
    assert "is the published file itself" in refused("import-weights", known, other, "--out", other)
    assert "has not the names" in refused("import-weights", known, other, "--out", "a.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.pth"]
