"""Distiller, Segmentor, binds and supervision: frozen teacher, own preprocessing, fair start, shapes that meet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkd.binding import Bind
from segkd.connectors import Conv1x1
from segkd.distiller import Distiller
from segkd.errors import UserError
from segkd.losses.at import AttentionTransfer
from segkd.losses.cwd import ChannelWise
from segkd.losses.fitnet import FitNet
from segkd.losses.kd import PixelwiseKD
from segkd.losses.mgd import MaskedGenerative
from segkd.losses.ofd import Overhaul, overhaul
from segkd.meeting import resize_feature, resize_label
from segkd.models import Network, Preprocess
from segkd.models.fast_scnn import FastSCNN
from segkd.segmentor import Segmentor
from segkd.supervision import AuxHead, CrossEntropy, Supervision, shrink_label
from segkd.taps import read_taps


class Tiny(Network):
    """Two convolutions at stride 4; the dropout and the BatchNorm make train and eval differ."""

    def __init__(self, num_classes: int = 5, width: int = 8, preprocess: Preprocess | None = None) -> None:
        super().__init__(num_classes, preprocess)
        self.stem = nn.Conv2d(3, width, 3, 4, 1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.classifier(self.drop(self.norm(self.stem(x)).relu()))
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


BINDS: dict[str, Any] = dict(
    logits=dict(student="classifier", teacher="classifier", loss=dict(type=PixelwiseKD), weight=2.0),
    stem=dict(student="stem", teacher="stem", connector=dict(type="conv1x1"), loss=dict(type=ChannelWise)),
    attention=dict(student="norm", teacher="norm", loss=dict(type=AttentionTransfer)),
)
SUPERVISION: dict[str, Any] = dict(main={}, aux=dict(tap="stem", head=dict(type=AuxHead), weight=0.4, stride=4))


def batch(seed: int = 0, n: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (n, 3, 48, 64), dtype=torch.uint8, generator=generator)
    label = torch.randint(0, 5, (n, 48, 64), generator=generator)
    label[:, :5] = 255
    return image, label


def distiller(teacher: Network | None = None, **kwargs: Any) -> Distiller:
    torch.manual_seed(0)
    return Distiller(
        Tiny(), teacher or Tiny(width=12), kwargs.pop("binds", BINDS), SUPERVISION, probe_size=(48, 64), **kwargs
    )


def test_teacher_stays_frozen_in_eval_and_outside_of_the_checkpoint() -> None:
    model = distiller()
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    model.train()
    assert not any(m.training for m in model.teacher.modules())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        total = sum(model.losses(*batch(step), step).values())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    after = model.teacher.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    owned = {id(p) for p in model.parameters()} | {id(b) for b in model.buffers()}
    assert not owned & {id(t) for t in (*model.teacher.parameters(), *model.teacher.buffers())}
    assert not [k for k in model.state_dict() if "teacher" in k]


def test_every_trainable_part_gets_a_gradient() -> None:
    model = distiller().train()
    sum(model.losses(*batch(), 0).values()).backward()
    assert [
        n for n, p in model.named_parameters() if p.grad is None or (not p.grad.abs().sum() > 0 and p.dim() > 1)
    ] == []


def test_terms_equal_hand_computation() -> None:
    """The whole step against its definition, written out here with torch alone."""
    model = distiller(binds=dict(logits=BINDS["logits"])).eval()
    image, label = batch()
    terms = model.losses(image, label, 0)
    x = model.student.preprocess(image)
    small = model.student.classifier(model.student.norm(model.student.stem(x)).relu())
    logits = F.interpolate(small, size=(48, 64), mode="bilinear", align_corners=False)
    ce = F.cross_entropy(logits, label, ignore_index=255)
    teacher = model.teacher
    t = teacher.classifier(teacher.norm(teacher.stem(teacher.preprocess(image))).relu())
    kl = (t.softmax(1) * (t.log_softmax(1) - small.log_softmax(1))).sum(1).mean()
    assert terms["loss_main"].item() == pytest.approx(ce.item(), rel=1e-5)
    assert terms["loss_bind_logits"].item() == pytest.approx(2.0 * kl.item(), rel=1e-4)
    assert set(terms) == {"loss_main", "loss_aux", "loss_bind_logits"}


def test_each_network_uses_its_own_preprocessing() -> None:
    """A teacher that expects BGR in 0..255 and a student that expects RGB in 0..1: a swap changes both results."""
    bgr = Preprocess(mean=(110.0, 108.0, 105.0), std=(70.0, 71.0, 72.0), scale=1.0, channels="BGR")
    teacher = Tiny(width=12, preprocess=bgr)
    model = distiller(teacher, binds=dict(logits=BINDS["logits"])).eval()
    image, label = batch()
    seen: dict[str, Tensor] = {}
    model.student.stem.register_forward_pre_hook(lambda m, a: seen.__setitem__("student", a[0]))
    teacher.stem.register_forward_pre_hook(lambda m, a: seen.__setitem__("teacher", a[0]))
    model.losses(image, label, 0)
    rgb = image.float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (rgb - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    assert torch.allclose(seen["student"], expected, atol=1e-5)
    flipped = image.flip(1).float()
    expected = (flipped - torch.tensor([110.0, 108.0, 105.0]).view(3, 1, 1)) / torch.tensor([70.0, 71.0, 72.0]).view(
        3, 1, 1
    )
    assert torch.allclose(seen["teacher"], expected, atol=1e-4)


def test_students_start_bit_equal_in_both_arms() -> None:
    teacher = Tiny(width=12)

    def build(kind: str) -> nn.Module:
        torch.manual_seed(7)
        student = dict(type="fast_scnn", num_classes=5)
        terms = dict(main={}, aux=dict(tap="learning_to_downsample", head=dict(type=AuxHead), weight=0.4))
        if kind == "alone":
            return Segmentor(student, terms)
        bind = dict(
            student="global_features", teacher="stem", connector=dict(type="conv1x1"), loss=dict(type=ChannelWise)
        )
        return Distiller(student, teacher, dict(deep=bind), terms)

    alone, distilled = build("alone"), build("distilled")
    for part in ("student", "supervision"):
        a, b = getattr(alone, part).state_dict(), getattr(distilled, part).state_dict()
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_teacher_moves_with_the_module_and_survives_a_deepcopy_of_dtype() -> None:
    model = distiller().double()
    assert next(model.teacher.parameters()).dtype is torch.float64
    model.to(memory_format=torch.channels_last)
    assert model.teacher.stem.weight.is_contiguous(memory_format=torch.channels_last)


def test_teacher_without_weights_is_refused() -> None:
    cfg = dict(type=FastSCNN, num_classes=5)
    with pytest.raises(UserError, match=r"teacher has no weights"):
        Distiller(Tiny(), cfg, BINDS)
    with pytest.raises(UserError, match=r"not found: .*missing\.pth"):
        Distiller(Tiny(), dict(cfg, weights="missing.pth"), BINDS)


def test_teacher_loads_its_weights_strictly(tmp_path: Path) -> None:
    trained = FastSCNN(num_classes=5)
    file = tmp_path / "teacher.pth"
    torch.save(trained.state_dict(), file)
    bind = dict(logits=dict(student="classifier", teacher="classifier", loss=dict(type=PixelwiseKD)))
    model = Distiller(Tiny(), dict(type=FastSCNN, num_classes=5, weights=str(file)), bind)
    assert torch.equal(model.teacher.classifier.weight, trained.classifier.weight)
    with pytest.raises(UserError, match="does not fit FastSCNN"):
        Distiller(Tiny(), dict(type=FastSCNN, num_classes=7, weights=str(file)), bind)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(student="clasifier"), r"bind 'b'.*clasifier.*classifier"),
        (dict(teacher="norn"), r"bind 'b'.*norn.*norm"),
        (dict(loss=dict(type="cdw")), r"bind 'b'.*unknown loss 'cdw'.*cwd"),
        (dict(loss=dict(type=PixelwiseKD, temprature=2.0)), r"PixelwiseKD has no argument 'temprature'.*temperature"),
        (dict(size="large"), r"size policy 'large'"),
        (dict(student="stem", teacher="stem", loss=dict(type=ChannelWise)), r"8 channels.*12.*connector='auto'"),
        (dict(student=["stem", "norm"]), r"as many student taps"),
        (dict(wieght=1.0), r"no argument 'wieght'.*weight"),
        (dict(loss="kd"), r"a loss is given as dict\(type=...\), got 'kd'"),
        (dict(loss=None), r"a loss is given as dict"),
        (dict(loss=dict(temperature=2)), r"a loss needs a `type`"),
        (dict(connector="conv1x1"), r"a connector is given as dict\(type=...\), got 'conv1x1'"),
        (dict(connector=dict(type="conv1x1", norm="yes")), r"norm must be True or False"),
        (dict(student=None), r"student must be a tap path or a list of them, got None"),
        (dict(teacher=[3]), r"teacher must be a tap path or a list of them, got \[3\]"),
        (dict(student=[], teacher=[]), r"student must be a tap path"),
        (dict(schedule=3), r"schedule must be a dict of arguments, got 3"),
        (dict(first_stage=3), r"first_stage must be a dict of arguments, got 3"),
        (dict(masked="no"), r"masked must be True or False, got 'no'"),
        (dict(masked=True, loss=dict(type="skd_holistic")), r"Holistic judges whole maps and takes no mask"),
        (dict(weight="1"), r"weight must be a number from 0, got '1'"),
        (dict(teacher_scale=0), r"teacher_scale must be a number above 0, got 0"),
        (dict(lr_factor=float("nan")), r"lr_factor must be a number from 0, got nan"),
        (dict(of=3), r"there is no teacher 3"),
        (dict(loss=PixelwiseKD), r"a loss is given as dict\(type=PixelwiseKD\), got the class alone"),
        (dict(loss=dict(type="torch.nn.MSELoss")), r"MSELoss is no distillation loss"),
        (dict(connector=Conv1x1), r"a connector is given as dict\(type=Conv1x1\), got the class alone"),
        (dict(connector=dict(type="torch.nn.Conv2d", in_channels=99, out_channels=5, kernel_size=1)),
         r"bind 'b': the connector cannot take the student's feature: .*99"),
        (dict(loss=dict(type="crd", n_data=10**12)), r"bind 'b': .* cannot be made for these features"),
    ],
)  # fmt: skip
def test_bad_binds_say_what_is_wrong(change: dict[str, Any], message: str) -> None:
    bind = dict(student="classifier", teacher="classifier", loss=dict(type=PixelwiseKD)) | change
    with pytest.raises(UserError, match=message):
        Distiller(Tiny(), Tiny(width=12), dict(b=bind))


@pytest.mark.parametrize("name", ["a.b", "items", "train", "training", "", "a b", "a/b", 3])
def test_a_bind_needs_a_name_that_torch_and_files_can_hold(name: Any) -> None:
    with pytest.raises(UserError, match=r"bind .*: choose another name"):
        distiller(binds={name: BINDS["logits"]})


def test_binds_and_teachers_are_dicts() -> None:
    with pytest.raises(UserError, match=r"binds must be a dict \{name: dict\("):
        distiller(binds=[BINDS["logits"]])
    with pytest.raises(UserError, match=r"bind 'b' must be a dict\(student="):
        distiller(binds={"b": "kd"})
    for teachers, message in (
        ({"a": dict(type=Tiny)}, r"set model.teachers.a.weights to a file"),
        ({"a": dict(type=Tiny, weights="none.pth")}, r"none.pth; .* set model.teachers.a.weights to a file"),
        ({"a": dict(type="tin", weights=__file__)}, r"teacher a: unknown network 'tin'"),
    ):
        with pytest.raises(UserError, match=message):
            Distiller(Tiny(), binds=BINDS, teachers=teachers)
    with pytest.raises(UserError, match=r"untrained_teacher must be True or False, got 'no'"):
        distiller(untrained_teacher="no")
    with pytest.raises(UserError, match=r"teachers must be a dict"):
        Distiller(Tiny(), binds=BINDS, teachers=[Tiny()])


def test_maps_meet_at_the_smaller_of_both_sizes() -> None:
    bind = Bind("a", "b", dict(type=PixelwiseKD))
    student, teacher = torch.randn(1, 5, 8, 20), torch.randn(1, 5, 12, 10)
    s, t = bind._meet(student, teacher)
    assert s.shape == t.shape == (1, 5, 8, 10)
    assert torch.allclose(s, F.avg_pool2d(student, (1, 2)))
    s, t = Bind("a", "b", dict(type=PixelwiseKD), size="half")._meet(torch.ones(1, 2, 9, 8), torch.ones(1, 2, 12, 6))
    assert s.shape == t.shape == (1, 2, 5, 3)  # of 9 x 6
    for size in ("student", "teacher"):
        s, t = Bind("a", "b", dict(type=PixelwiseKD), size=size)._meet(student, teacher)
        assert s.shape == t.shape == (student if size == "student" else teacher).shape


def test_resizing_averages_areas_and_invents_no_class() -> None:
    x = torch.randn(2, 3, 9, 12, dtype=torch.float64)
    assert torch.allclose(resize_feature(x, (3, 4)), F.avg_pool2d(x, 3))
    grown = resize_feature(x, (18, 24))
    assert torch.allclose(grown, F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
    label = torch.tensor([0, 7, 255])[torch.randint(0, 3, (2, 37, 50))]
    assert set(resize_label(label, (5, 7)).unique().tolist()) <= {0, 7, 255}
    assert set(shrink_label(label, 4).unique().tolist()) <= {0, 7, 255}


def test_labels_shrink_to_the_pixel_nearest_to_each_cells_middle() -> None:
    """By sizes of 6 to 2: rows and columns 1 and 4, where plain nearest takes 0 and 3."""
    label = torch.arange(36).view(1, 6, 6)
    assert resize_label(label, (2, 2)).tolist() == [[[7, 10], [25, 28]]]


def test_draws_change_with_the_step_and_the_seed() -> None:
    bind = dict(student="stem", teacher="stem", connector=dict(type="conv1x1"), loss=dict(type=MaskedGenerative))
    model = distiller(binds=dict(masked=bind)).eval()  # dropout is off: only the draw can differ

    def value(step: int, seed: int) -> float:
        model.seed = seed
        return float(model.losses(*batch(), step)["loss_bind_masked"].detach())

    first = value(0, 0)
    assert value(0, 0) == first
    assert len({first, value(1, 0), value(2, 0), value(0, 1)}) == 4


def test_ignored_pixels_take_no_part_in_supervision() -> None:
    logits = torch.randn(2, 5, 8, 8, requires_grad=True)
    label = torch.randint(0, 5, (2, 8, 8))
    label[:, :3] = 255
    loss = CrossEntropy()(logits, label)
    assert loss.item() == pytest.approx(F.cross_entropy(logits[:, :, 3:], label[:, 3:]).item(), rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:, :, :3].abs().max() == 0
    nothing = CrossEntropy()(logits, torch.full_like(label, 255))
    assert nothing.item() == 0


def test_class_weights_are_torch_s() -> None:
    logits, label = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    weight = [1.0, 2.0, 0.5]
    expected = F.cross_entropy(logits, label, weight=torch.tensor(weight))
    assert CrossEntropy(class_weight=weight)(logits, label).item() == pytest.approx(expected.item(), rel=1e-6)


def test_masked_bind_leaves_void_out() -> None:
    masked = dict(BINDS["logits"], masked=True, size="teacher", student="", teacher="")
    model = distiller(binds=dict(logits=masked)).eval()
    image, label = batch()
    value = model.losses(image, label, 0)["loss_bind_logits"]
    s, t = model.student.predict(image), model.teacher.predict(image)
    kl = (t.softmax(1) * (t.log_softmax(1) - s.log_softmax(1))).sum(1)
    assert value.item() == pytest.approx(2.0 * kl[label != 255].mean().item(), rel=1e-4)


def test_supervision_refuses_what_it_cannot_use() -> None:
    network, probe = Tiny(), torch.zeros(1, 3, 48, 64)
    for terms, message in (
        (dict(a=dict(tap="stem")), "tap and a head go together"),
        (dict(a=dict(wight=1)), "no key 'wight'"),
        (dict(a=dict(tap="sten", head=dict(type=AuxHead))), "sten.*stem"),
        (dict(a=dict(tap=3, head=dict(type=AuxHead))), "tap must be the path of a layer, got 3"),
        (dict(a=dict(weight=float("nan"))), "weight must be a number from 0, got nan"),
        (dict(a=dict(stride=1.5)), "stride must be an integer from 1, got 1.5"),
        (dict(a=3), "supervision 'a' must be a dict"),
        ({"a.b": {}}, "supervision 'a.b': choose another name"),
        ([dict()], "supervision must be a dict"),
        ({}, "no term"),
    ):
        with pytest.raises(UserError, match=message):
            Supervision(terms, network, probe)


def test_aux_head_has_the_published_parameter_count() -> None:
    """Fast-SCNN with one head on 64 channels has 1,157,174 parameters at 19 classes (reference); the head 19,123."""
    assert sum(p.numel() for p in AuxHead(64, 19).parameters()) == 19123


def two_teachers(**binds: Any) -> Distiller:
    torch.manual_seed(0)
    kd = dict(student="classifier", teacher="classifier", loss=dict(type=PixelwiseKD))
    cfg = {name: dict(kd, **change) for name, change in binds.items()}
    return Distiller(Tiny(), binds=cfg, teachers=dict(a=Tiny(), b=Tiny(width=12)), probe_size=(48, 64))


def test_binds_choose_among_several_teachers_or_average_them():
    model = two_teachers(first=dict(of="a"), second=dict(of="b"), both=dict(of="average"))
    image, label = batch()
    terms = model.losses(image, label, 0)
    taught = model.teach(image)
    inputs = {name: network.preprocess(image) for name, network in model.teachers.items()}
    logits = {k: read_taps(net, ["classifier"], inputs[k])["classifier"] for k, net in model.teachers.items()}
    torch.testing.assert_close(taught["first"]["classifier"], logits["a"])
    torch.testing.assert_close(taught["second"]["classifier"], logits["b"])
    torch.testing.assert_close(taught["both"]["classifier"], (logits["a"] + logits["b"]) / 2)
    assert {"loss_bind_first", "loss_bind_second", "loss_bind_both"} < set(terms)
    assert not any(key.startswith("teachers") for key in model.state_dict())


def test_margins_of_several_averaged_teachers_are_estimated_from_their_mean():
    teachers = dict(a=Tiny(), b=Tiny())
    torch.nn.init.constant_(teachers["b"].norm.bias, 5)  # the first one's BatchNorm alone would give about -0.8
    bind = dict(student="norm", teacher="norm", loss=dict(type=Overhaul), of="average")
    model = Distiller(Tiny(), binds=dict(both=bind), teachers=teachers, probe_size=(48, 64))
    image, label = batch()
    mean = torch.stack([read_taps(net, ["norm"], net.preprocess(image))["norm"] for net in teachers.values()]).mean(0)
    model.losses(image, label, 0)
    loss = model.terms()["both"].loss
    loss.after_step()
    want = mean.clamp_max(0).sum((0, 2, 3)) / (mean < 0).sum((0, 2, 3)).clamp_min(1)
    torch.testing.assert_close(loss.margin, want)
    bind["loss"] = dict(type=Overhaul, margin="bn")
    with pytest.raises(UserError, match="mean of several teachers'"):
        Distiller(Tiny(), binds=dict(both=bind), teachers=teachers, probe_size=(48, 64))


def test_a_scale_applies_to_the_teacher_alone() -> None:
    taps: dict[str, Any] = dict(student="norm", teacher="norm", size="student")
    binds = dict(
        plain=taps | dict(loss=dict(type=FitNet)),
        scaled=taps | dict(loss=dict(type=FitNet), teacher_scale=3.0),
        margins=taps | dict(loss=dict(type=Overhaul), teacher_scale=3.0),
    )
    torch.manual_seed(0)
    model = Distiller(Tiny(), Tiny(), binds, probe_size=(48, 64)).eval()
    image, label = batch()
    terms = model.losses(image, label, 0)
    feature = {side: read_taps(net, ["norm"], net.preprocess(image))["norm"].detach() for side, net in sides(model)}
    for name, scale in (("plain", 1), ("scaled", 3)):
        want = (feature["student"] - scale * feature["teacher"]).square().mean()
        torch.testing.assert_close(terms[f"loss_bind_{name}"].detach(), want)
        rms = (scale * feature["teacher"]).square().mean().sqrt().double()
        torch.testing.assert_close(model.terms()[name].teacher_rms, rms)
    loss, t = model.terms()["margins"].loss, 3 * feature["teacher"]
    below = t.clamp_max(0).sum((0, 2, 3)) / (t < 0).sum((0, 2, 3)).clamp_min(1)  # not the BatchNorm's, which is not 3 t
    torch.testing.assert_close(terms["loss_bind_margins"].detach(), overhaul(feature["student"], t, below))
    assert loss.seen is not None
    binds["margins"]["loss"] = dict(type=Overhaul, margin="bn")
    with pytest.raises(UserError, match="or scaled"):
        Distiller(Tiny(), Tiny(), binds, probe_size=(48, 64))


def sides(model: Distiller) -> list[tuple[str, Network]]:
    return [("student", model.student), ("teacher", model.teacher)]


@pytest.mark.parametrize(
    ("factor", "scale", "advice"),
    [
        (1.0, None, None),
        (
            0.02,
            None,
            r"the teacher's features have an rms of 0.01\d?, which makes FitNet faint: set teacher_scale=\d\d in",
        ),
        (0.02, 60.0, None),
        (0.02, 1, None),  # meant as they are
        (1.0, 60.0, r"an rms of \d\d, .* loud: set teacher_scale=1(.\d)? in"),  # a scale made for another teacher
        (30.0, None, r"an rms of \d\d, .*teacher_scale=0.0\d+ in"),
        (0.0, None, "the teacher's features are 0 everywhere: tap another layer"),
        (0.0, 1, "the teacher's features are 0 everywhere"),
    ],
)
def test_a_bind_says_what_scale_its_teacher_needs(factor: float, scale: float | None, advice: str | None) -> None:
    torch.manual_seed(0)
    teacher = Tiny()
    with torch.no_grad():
        teacher.norm.weight.mul_(factor)
    taps = dict(student="norm", teacher="norm", teacher_scale=scale)
    types = dict(hint=FitNet, channels=ChannelWise, attention=AttentionTransfer)
    binds = {name: taps | dict(loss=dict(type=loss)) for name, loss in types.items()}
    model = Distiller(Tiny(), teacher, binds, probe_size=(48, 64))
    terms = model.terms()
    assert terms["hint"].scale_advice() == ""  # nothing was heard yet
    model.losses(*batch(), 0)
    said = terms["hint"].scale_advice()
    assert re.match(f".*{advice}", said) if advice else said == ""
    softmaxed = "" if "loud" in said else said.replace("FitNet", "ChannelWise")
    assert terms["channels"].scale_advice() == softmaxed  # of faint features nearly uniform, of loud ones not
    assert terms["attention"].scale_advice() == ""  # compares directions, whatever the scale


def test_mistakes_with_several_teachers_are_named():
    with pytest.raises(UserError, match="say which teacher"):
        two_teachers(first={})
    with pytest.raises(UserError, match="no teacher 'c'"):
        two_teachers(first=dict(of="c"))
    with pytest.raises(UserError, match="12"):
        two_teachers(first=dict(of="average", teacher="stem", student="stem"))
    with pytest.raises(UserError, match="either teacher="):
        Distiller(Tiny(), binds=BINDS)


def test_a_bind_that_is_off_costs_nothing_and_counts_nothing(monkeypatch: pytest.MonkeyPatch):
    off = dict(student="classifier", teacher="classifier", loss=dict(type=PixelwiseKD), schedule=dict(stop=2))
    model = distiller(binds=dict(logits=off))
    image, label = batch()
    assert model.losses(image, label, 1)["loss_bind_logits"] > 0
    monkeypatch.setattr(model.teacher, "predict", lambda image: pytest.fail("the teacher ran"))
    terms = model.losses(image, label, 2)
    assert float(terms["loss_bind_logits"]) == 0
    sum(terms.values()).backward()


def test_warmup_scales_the_term():
    slow = dict(student="classifier", teacher="classifier", loss=dict(type=PixelwiseKD), schedule=dict(warmup=4))
    model = distiller(binds=dict(logits=slow)).eval()
    image, label = batch()
    values = [float(model.losses(image, label, step)["loss_bind_logits"].detach()) for step in (0, 3, 10)]
    assert values[0] == pytest.approx(values[1] / 4)
    assert values[1] == values[2]


def test_connectors_of_equal_shape_start_apart_and_follow_seed_and_name() -> None:
    one = dict(BINDS["stem"])
    both = dict(one, student=["stem", "norm"], teacher=["stem", "norm"], loss=dict(type="fsp"))
    given = dict(one, connector=dict(type="conv1x1", in_channels=8, out_channels=12))
    weights: list[dict[str, Tensor]] = []
    for binds in (dict(a=one, b=one, c=both, d=given), dict(e=given, c=both, a=one)):
        model = distiller(Tiny(width=12).requires_grad_(False), binds=binds)
        state = model.binds.state_dict()
        weights.append({name: value for name, value in state.items() if "connectors" in name})
    first, second = weights
    assert len(first) == 5
    for name, value in first.items():
        assert not any(torch.equal(value, other) for key, other in first.items() if key != name), name
    assert all(torch.equal(second[name], first[name]) for name in first if name[0] in "ac")


def test_making_binds_leaves_the_random_stream() -> None:
    after = []
    for binds in (dict(a=BINDS["logits"]), BINDS):
        distiller(Tiny(width=12), binds=binds)
        after.append(torch.rand(3))
    assert torch.equal(*after)


class Staged(Tiny):
    """A network with roles."""

    roles = {"backbone": "norm", "stages": ["stem", "norm"]}


def test_roles_become_the_taps_that_they_stand_for() -> None:
    written = dict(
        logits=dict(student="@logits", teacher="@logits", loss=dict(type=PixelwiseKD)),
        head=dict(student="@head", teacher="@head", loss=dict(type=AttentionTransfer)),
        stages=dict(student="@stages", teacher="@stages", loss=dict(type=AttentionTransfer)),
        one=dict(student="@stages[-1]", teacher="norm", loss=dict(type=AttentionTransfer)),
    )
    torch.manual_seed(0)
    model = Distiller(Staged(), Staged(width=12), written, probe_size=(48, 64))
    found = {name: (bind.student_paths, bind.teacher_paths) for name, bind in model.terms().items()}
    both = ["stem", "norm"]
    assert found == {
        "logits": ([""], [""]),
        "head": (["classifier@input"], ["classifier@input"]),
        "stages": (both, both),
        "one": (["norm"], ["norm"]),
    }
    by_path = {name: {**bind, "student": found[name][0], "teacher": found[name][1]} for name, bind in written.items()}
    torch.manual_seed(0)
    plain = Distiller(Staged(), Staged(width=12), by_path, probe_size=(48, 64))
    for model_ in (model, plain):
        torch.manual_seed(1)
        model_.eval()
    image, label = batch()
    ours, theirs = model.losses(image, label, 0), plain.losses(image, label, 0)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_networks_with_fewer_stages_meet_from_the_deepest() -> None:
    class Single(Tiny):
        roles = {"stages": ["norm"]}

    bind = dict(student="@stages", teacher="@stages", loss=dict(type=AttentionTransfer))
    terms = Distiller(Staged(), Single(width=12), {"a": bind}, probe_size=(48, 64)).terms()
    assert (terms["a"].student_paths, terms["a"].teacher_paths) == (["norm"], ["norm"])
    with pytest.raises(UserError, match="as many student taps as teacher taps"):
        Distiller(
            Staged(), Single(), {"a": {**bind, "student": ["@head", "stem"], "teacher": "@head"}}, probe_size=(48, 64)
        )
    with pytest.raises(UserError, match=r"bind 'a': .*backbone"):
        Distiller(Single(), Staged(), {"a": {**bind, "student": "@backbone"}}, probe_size=(48, 64))


def test_a_connector_comes_by_itself_where_channels_differ_and_the_loss_minds() -> None:
    def connectors(width: int, loss: Any) -> list[str]:
        bind = dict(student="stem", teacher="stem", loss=dict(type=loss), connector="auto")
        torch.manual_seed(0)
        made = Distiller(Tiny(), Tiny(width=width), {"a": bind}, probe_size=(48, 64)).terms()["a"].connectors
        return [type(connector).__name__ for connector in made]

    assert connectors(12, FitNet) == ["Conv1x1"]
    assert connectors(8, FitNet) == ["Identity"]
    assert connectors(12, AttentionTransfer) == ["Identity"]
