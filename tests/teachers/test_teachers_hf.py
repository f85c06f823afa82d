"""Teachers of transformers: logits against the library's own, on models that the library made and saved."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_models import CLASSES, LABELS, SEMANTIC, UNIVERSAL, save
from torch import Tensor
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.models import Network, Preprocess
from segkd.taps import read_taps
from segkd.teachers.hf import HfModel, load
from segkd.teachers.hf_sizes import fitting

t: Any = pytest.importorskip("transformers", reason='needs transformers: pip install "segkd[hf]"')
ODD = (97, 131)
FIXED = {"height": 64, "width": 64}
#: models that take any size, and the multiple to which they get images padded
ANY = {"segformer": 1, "upernet_convnext": 4, "upernet_swin": 1, "beit": 16, "mobilevit": 1, "mobilenetv2": 1}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a local folder was opened and a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def opened(folder: Path, **given: Any) -> HfModel:
    network = load(None, folder, **{"num_classes": None, "preprocess": None, "download": False, **given})
    assert isinstance(network, HfModel)
    return network


def image_of(size: tuple[int, int], count: int = 1) -> Tensor:
    """Smooth random images (N, 3, H, W) in whole numbers of 0..255, as float."""
    torch.manual_seed(3)
    coarse = torch.rand(count, 3, 7, 9) * 255
    return F.interpolate(coarse, size, mode="bilinear").round()


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def close(ours: Tensor, theirs: Tensor) -> None:
    """Equal to 1e-4 of their spread, which must be there."""
    assert theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * max(1.0, float(theirs.abs().max())))


@pytest.mark.parametrize("kind", ANY)
def test_semantic_models_of_any_size(kind: str, tmp_path: Path) -> None:
    model, image = save(t, kind, tmp_path), image_of(ODD)
    multiple = ANY[kind]
    bottom, right = (-side % multiple for side in ODD)
    padded = F.pad(image, (0, right, 0, bottom), mode="replicate")
    processor = t.AutoImageProcessor.from_pretrained(tmp_path)
    inputs = processor(padded[0].byte(), do_resize=False, do_center_crop=False, return_tensors="pt")
    network = opened(tmp_path)
    assert (network.sizes.kind, network.sizes.multiple) == ("any", multiple)
    with torch.no_grad():
        theirs = upsampled(model(**inputs).logits, tuple(padded.shape[-2:]))[..., : ODD[0], : ODD[1]]
        close(network.predict(image.byte()), theirs)


@pytest.mark.parametrize("kind", ["dpt", "data2vec"])
def test_semantic_models_of_one_size(kind: str, tmp_path: Path) -> None:
    """The whole way of the library: its processor's resize, the model, its upsampling to the image."""
    model, image = save(t, kind, tmp_path, size=FIXED), image_of(ODD)
    inputs = t.AutoImageProcessor.from_pretrained(tmp_path)(image[0], return_tensors="pt")
    assert inputs["pixel_values"].shape[-2:] == (64, 64)
    network = opened(tmp_path)
    with torch.no_grad():
        close(network.predict(image), upsampled(model(**inputs).logits, ODD))


@pytest.mark.parametrize("kind", ["mask2former", "maskformer"])
def test_masks_of_queries_at_an_odd_size(kind: str, tmp_path: Path) -> None:
    """The papers' formula on the library's outputs: masks at the image's size, then classes times masks."""
    model, image = save(t, kind, tmp_path), image_of(ODD, 2)
    padded = F.pad(image, (0, -131 % 32, 0, -97 % 32), mode="replicate")
    network = opened(tmp_path)
    with torch.no_grad():
        out = model(pixel_values=(padded / 255 - torch.tensor(MEAN)) / torch.tensor(STD))
        masks = upsampled(out.masks_queries_logits, (128, 160)).sigmoid()
        classes = out.class_queries_logits.softmax(-1)[..., :CLASSES]
        scores = torch.einsum("nqk,nqhw->nkhw", classes, masks)[..., :97, :131]
        logits = network.predict(image)
    close(logits.exp(), scores)
    assert torch.equal(logits.argmax(1), scores.argmax(1))
    torch.testing.assert_close(logits.softmax(1), scores / scores.sum(1, keepdim=True))


MEAN = [[[0.485]], [[0.456]], [[0.406]]]
STD = [[[0.229]], [[0.224]], [[0.225]]]


def test_mask2former_as_the_library_combines_its_masks(tmp_path: Path) -> None:
    """Whatever the image, transformers combines the masks at 384x384; at that size it is the papers' way."""
    model, image = save(t, "mask2former", tmp_path, size={"height": 384, "width": 384}), image_of((384, 384))
    processor = t.AutoImageProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        out = model(**processor(image[0].byte(), return_tensors="pt"))
        (theirs,) = processor.post_process_semantic_segmentation(out, [(384, 384)], return_segmentation_scores=True)
        close(opened(tmp_path).predict(image.byte())[0].exp(), theirs.segmentation_scores)


@pytest.mark.parametrize("kind", ["eomt", "eomt_dinov3"])
@pytest.mark.parametrize("size", [ODD, (150, 70), (64, 64), (40, 50), (64, 65)])
def test_eomt_in_windows(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    rule = dict(size={"shortest_edge": 64, "longest_edge": None}, do_split_image=True, do_pad=False)
    model, image = save(t, kind, tmp_path, **rule), image_of(size)
    processor = t.AutoImageProcessor.from_pretrained(tmp_path)
    inputs = processor(image[0], return_tensors="pt")
    network = opened(tmp_path)
    assert network.sizes.kind == "windows"
    with torch.no_grad():
        out = model(pixel_values=inputs["pixel_values"])
        out.patch_offsets = inputs["patch_offsets"]
        (theirs,) = processor.post_process_semantic_segmentation(out, [size], return_segmentation_scores=True)
        close(network.predict(image)[0].exp(), theirs.segmentation_scores)


@pytest.mark.parametrize("size", [ODD, (150, 70), (64, 64), (40, 50)])
def test_eomt_padded(size: tuple[int, int], tmp_path: Path) -> None:
    """Scores at the canvas, cut and resized by the library's own ``unpad_image``."""
    rule = dict(size={"shortest_edge": 64, "longest_edge": 64}, do_split_image=False, do_pad=True)
    model, image = save(t, "eomt", tmp_path, **rule), image_of(size)
    processor = t.AutoImageProcessor.from_pretrained(tmp_path)
    network = opened(tmp_path)
    assert network.sizes.kind == "padded"
    with torch.no_grad():
        out = model(pixel_values=processor(image[0], return_tensors="pt")["pixel_values"])
        masks = upsampled(out.masks_queries_logits, (64, 64)).sigmoid()
        scores = torch.einsum("nqk,nqhw->nkhw", out.class_queries_logits.softmax(-1)[..., :-1], masks)
        (theirs,) = processor.unpad_image(scores, [size], processor.size)
        close(network.predict(image)[0].exp(), theirs)


def test_fitting_is_the_librarys() -> None:
    from transformers.image_transforms import get_size_with_aspect_ratio

    sizes = [(h, w) for h in (33, 40, 64, 97, 640) for w in (33, 64, 131, 641, 1000)]
    for within in ((64, 64), (64, 100), (512, 512), (480, 640)):
        for size in sizes:
            theirs = get_size_with_aspect_ratio(size, *within)
            if max(theirs) <= max(within):  # it leaves 33x641 as it is, since 33 is right
                assert fitting(size, within) == tuple(theirs), (size, within)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("beit", {}),
        ("mobilevit", {}),
        ("segformer", dict(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6], rescale_factor=1 / 128)),
        ("segformer", dict(do_rescale=False)),
        ("segformer", dict(do_normalize=False)),
    ],
)
def test_preprocessing_is_the_processors(kind: str, said: dict[str, Any], tmp_path: Path) -> None:
    save(t, kind, tmp_path, **said)
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    processor = t.AutoImageProcessor.from_pretrained(tmp_path)
    theirs = processor(image[0], do_resize=False, do_center_crop=False, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(opened(tmp_path).preprocess(image), theirs.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*SEMANTIC, *UNIVERSAL])
def test_taps_and_roles_are_maps(kind: str, tmp_path: Path) -> None:
    save(t, kind, tmp_path)
    network = opened(tmp_path)
    taps = [info.path for info in network.feature_info]
    stages = list(network.roles.get("stages", ()))
    has_maps = kind not in ("eomt", "eomt_dinov3")
    assert (len(stages) >= 4) == has_maps
    x = torch.rand(1, 3, 128, 192)
    features = read_taps(network, [*taps, ""], x)
    seen = (64, 64) if kind in ("dpt", "data2vec") else (128, 192)
    for info in network.feature_info:
        shape = features[info.path].shape
        assert (shape[1], *shape[2:]) == (info.channels, seen[0] // info.stride, seen[1] // info.stride)
    if has_maps:
        assert network.roles["backbone"] == stages[-1]
        assert [i.stride for i in network.feature_info if i.path in stages] == sorted(
            {i.stride for i in network.feature_info if i.path in stages}
        )
    if kind in SEMANTIC:
        classifier = network.roles["classifier"]
        assert isinstance(classifier, str)
        assert taps[-1] == classifier
        assert network.roles["head"] == f"{classifier}@input"
        if kind != "dpt":  # which upsamples twice
            close(upsampled(features[classifier], (128, 192)), features[""])


def test_what_else_it_says(tmp_path: Path) -> None:
    save(t, "segformer", tmp_path)
    network = opened(tmp_path, num_classes=CLASSES, preprocess=Preprocess((0.5,) * 3, (0.25,) * 3))
    assert isinstance(network, Network)
    assert not network.training
    assert (network.num_classes, network.class_names) == (CLASSES, list(LABELS.values()))
    assert network.preprocess.std.tolist() == [0.25] * 3
    assert opened(tmp_path / "model.safetensors").num_classes == CLASSES


def test_half_precision_files_are_raised(tmp_path: Path) -> None:
    save(t, "segformer", tmp_path).half().save_pretrained(tmp_path)
    assert {p.dtype for p in opened(tmp_path).parameters()} == {torch.float32}


def test_other_tasks_and_lacking_parts(tmp_path: Path) -> None:
    save(t, "segformer", tmp_path / "a")
    with pytest.raises(UserError, match="has 5 classes, not 19; say by classes="):
        opened(tmp_path / "a", num_classes=19)
    (tmp_path / "a/preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"how its images are normalised.*give preprocess=dict\(mean"):
        opened(tmp_path / "a")
    assert opened(tmp_path / "a", preprocess=Preprocess()).num_classes == CLASSES
    t.SegformerForImageClassification(t.SegformerConfig(depths=[1] * 4, hidden_sizes=[8] * 4)).save_pretrained(
        tmp_path / "b"
    )
    with pytest.raises(UserError, match="holds SegformerForImageClassification, which is no model of semantic seg"):
        opened(tmp_path / "b")
    config = json.loads((tmp_path / "b/config.json").read_text())
    (tmp_path / "b/config.json").write_text(json.dumps({**config, "architectures": None}))
    with pytest.raises(UserError, match="holds no weights of SegformerForSemanticSegmentation: 'decode_head"):
        opened(tmp_path / "b", preprocess=Preprocess())
    (tmp_path / "b/model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot open the weights of"):
        opened(tmp_path / "b", preprocess=Preprocess())
    t.OneFormerConfig(backbone_config=t.SwinConfig()).save_pretrained(tmp_path / "c")
    with pytest.raises(UserError, match="which needs a text that names its task"):
        opened(tmp_path / "c")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model of transformers at .*save_pretrained"):
        opened(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no model of transformers at"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"no folder nvidia/segformer; .* needs download=True"):
        load("nvidia/segformer", None, num_classes=None, preprocess=None, download=False)
    with pytest.raises(UserError, match="takes a folder"):
        load(None, None, num_classes=None, preprocess=None, download=False)


def test_code_of_a_model_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    config = {"model_type": "own_thing", "auto_map": {"AutoConfig": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="cannot open the config of"):
        opened(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r'pip install "segkd\[hf\]"'):
        opened(tmp_path)
