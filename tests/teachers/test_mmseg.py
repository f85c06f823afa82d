"""mmsegmentation's checkpoints: logits as mmsegmentation's own (golden/mmseg.npz, recorded by golden_mmseg.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmseg_cases import image, kept, read, weights

from segkd.errors import UserError
from segkd.models.base import Network, Preprocess
from segkd.teachers import mmseg

GOLDEN = read()
#: the others of a family differ from these in their size alone
SMALL = {
    *("segformer_b0", "pspnet_r18", "pspnet_r18_769", "deeplabv3_r18", "deeplabv3plus_r18_769", "icnet_r18"),
    *("fast_scnn", "bisenetv1_r18", "bisenetv2", "stdc1", "ddrnet23_slim", "pidnet_s", "pidnet_l", "erfnet", "cgnet"),
    *("pspnet_r50", "upernet_convnext_tiny"),
}
NAMES = [pytest.param(name, marks=[] if name in SMALL else [pytest.mark.slow]) for name in mmseg.NETWORKS]


def state(network: str) -> dict[str, torch.Tensor]:
    return weights(GOLDEN[network].shapes, GOLDEN[network].power)


def saved(network: str, folder: Path) -> Path:
    """A checkpoint as mmengine writes it."""
    file = folder / f"{network}.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": state(network)}, file)
    return file


def load(
    name: str | None, file: Path | None, classes: int | None = None, preprocess: Preprocess | None = None
) -> Network:
    return mmseg.load(name, file, num_classes=classes, preprocess=preprocess, download=False)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_mmsegmentation(name: str, tmp_path: Path) -> None:
    file = saved(name, tmp_path)
    network = load(name, file)
    file.unlink()  # up to half a gigabyte
    with torch.no_grad():
        logits = network.predict(image(name))
    theirs = GOLDEN[name].logits
    assert 0.05 < theirs.std() < 50
    assert (kept(logits) - theirs).abs().max() < 1e-4 * max(1, theirs.abs().max())


def test_every_layer_norm_of_segformer_has_the_eps_of_its_config(tmp_path: Path) -> None:
    network = load("segformer_b0", saved("segformer_b0", tmp_path))  # too small a difference for the logits to show
    norms = [module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == 4 + 3 * 2 + 2 * 8 + 4
    assert {norm.eps for norm in norms} == {1e-6}


def test_a_name_is_found_and_what_only_training_uses_is_left_out(tmp_path: Path) -> None:
    file = saved("pidnet_s", tmp_path)
    assert any(name.startswith("decode_head.p_head.") for name in state("pidnet_s"))
    found, named = load(None, file, classes=5), load("pidnet_s", file)
    assert type(found).__name__ == "PIDNetS"
    assert not found.training
    x = torch.rand(1, 3, 64, 72)
    assert torch.equal(found(x), named(x))


def test_own_preprocessing_replaces_that_of_the_config(tmp_path: Path) -> None:
    file = saved("cgnet", tmp_path)
    assert load(None, file).preprocess.mean.tolist() == pytest.approx([72.392, 82.909, 73.158], abs=1e-3)
    other = Preprocess(channels="BGR")
    assert load(None, file, preprocess=other).preprocess is other


def test_biases_that_mmsegmentation_leaves_out_are_zero_and_step_counters_may_lack(tmp_path: Path) -> None:
    tensors = {name: value for name, value in state("fast_scnn").items() if not name.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "w.pth")
    network = load("fast_scnn", tmp_path / "w.pth")
    assert not network.state_dict()["fusion.coarse.0.bias"].any()


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    file = saved("fast_scnn", tmp_path)
    with pytest.raises(UserError, match=r"no network 'fastscnn' here; did you mean 'fast_scnn'"):
        load("fastscnn", file)
    with pytest.raises(UserError, match=r"needs its checkpoint: mmseg:erfnet@FILE"):
        load("erfnet", None)
    with pytest.raises(UserError, match="has 5 classes, not num_classes=19"):
        load("fast_scnn", file, classes=19)
    with pytest.raises(
        UserError, match=r"read as mmseg:stdc1, .*it lacks 'classifier|read as mmseg:stdc1, .*does not fit"
    ):
        load("stdc1", file)
    torch.save({"conv1.weight": torch.zeros(8, 3, 3, 3)}, file)
    with pytest.raises(UserError, match="no checkpoint of a mmsegmentation segmentor: it lacks"):
        load(None, file)


def test_another_size_of_a_network_names_the_nearest(tmp_path: Path) -> None:
    tensors = {
        name: value for name, value in state("stdc2").items() if not name.startswith("backbone.backbone.stages.4.2.")
    }
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(
        UserError, match=r"fits none of mmseg's networks here .*; nearest: stdc1 \(8,270,240\) and stdc2"
    ):
        load(None, tmp_path / "w.pth")


def test_a_single_output_is_refused(tmp_path: Path) -> None:
    tensors = state("fast_scnn")
    for key in ("weight", "bias"):
        tensors[f"decode_head.conv_seg.{key}"] = tensors[f"decode_head.conv_seg.{key}"][:1]
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match="single output"):
        load(None, tmp_path / "w.pth")


def test_every_network_is_frozen_and_recognised_by_its_tensors(tmp_path: Path) -> None:
    assert set(GOLDEN) == set(mmseg.NETWORKS)
    for name, golden in GOLDEN.items():
        tensors = {key: torch.empty(shape, device="meta") for key, shape in golden.shapes}
        needed = mmseg.needed(tensors, tmp_path)
        if name.removesuffix("_769") + "_769" not in GOLDEN:
            assert mmseg.recognised(needed, tmp_path) == name
            continue
        plain = name.removesuffix("_769")
        with pytest.raises(
            UserError, match=f"tensors of both {plain} and {plain}_769, whose resizes differ; say which"
        ):
            mmseg.recognised(needed, tmp_path)
