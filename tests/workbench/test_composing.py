"""Runs composed of parts: which layer wins, what a data set changes, what is filled in, what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import write_camvid

from segkd.datasets import DATASETS, create
from segkd.errors import UserError
from segkd.models.base import Network
from segkd.training.configfile import load_config, parts, textual
from segkd.workbench import composing
from segkd.workbench.composing import BASE, compose, data_source, part_of, student_part
from segkd.workbench.settling import class_weights, settle

TEACHER = "espnet_q8_camvid@espnet.pth"
#: as they were counted and printed before there were rules: of Cityscapes and of CamVid
PRINTED = {
    ("@enet", "cityscapes"): [
        3.3609, 14.0222, 4.9874, 39.2425, 36.5078, 32.8914, 46.2857, 40.6909, 6.7007, 33.5444, 18.5168, 32.9650,
        47.6681, 12.6930, 45.2009, 45.7880, 45.8291, 48.4139, 42.7456,
    ],
    ("@espnet", "cityscapes"): [
        2.8149, 6.9850, 3.7891, 9.9425, 9.7705, 9.5108, 10.3112, 10.0264, 4.6323, 9.5608, 7.8700, 9.5165, 10.3734,
        6.6615, 10.2604, 10.2881, 10.2901, 10.4057, 10.1378,
    ],
    ("@cgnet", "cityscapes"): [
        2.6011, 6.7026, 3.5235, 9.8761, 9.6843, 9.3979, 10.2884, 9.9693, 4.3389, 9.4527, 7.6274, 9.4043, 10.3586,
        6.3696, 10.2313, 10.2621, 10.2642, 10.3942, 10.0941,
    ],
    ("@linknet", "cityscapes"): [
        1.4223, 5.8876, 2.0248, 26.9571, 23.3301, 19.2615, 39.5073, 29.1139, 2.6831, 19.9434, 8.2608, 19.3373, 42.7369,
        5.2511, 37.1843, 38.4200, 38.5083, 44.6204, 32.5087,
    ],
    ("@enet", "camvid"): [
        5.7921, 4.4402, 34.0208, 3.4469, 15.9126, 9.0203, 32.0133, 32.4770, 13.2066, 38.3910, 44.1281,
    ],
    ("@espnet", "camvid"): [4.2053, 3.4828, 9.5963, 2.8715, 7.3919, 5.5550, 9.4413, 9.4784, 6.7905, 9.8910, 10.2081],
    ("@cgnet", "camvid"): [4.1112, 3.3982, 9.5630, 2.7980, 7.3049, 5.4540, 9.4029, 9.4412, 6.6961, 9.8676, 10.1971],
    ("@linknet", "camvid"): [
        2.2748, 1.7784, 20.0843, 1.4223, 6.6717, 3.5331, 18.0232, 18.4814, 5.3555, 25.3820, 34.7165,
    ],
}  # fmt: skip


class Own(Network):
    """A network that no catalogue knows."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes)
        self.classifier = torch.nn.Conv2d(3, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.classifier(x)
        return found


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A part that says of every key what it is and what it is on two data sets."""
    path = tmp_path / "fast_scnn.py"
    path.write_text(
        "network = dict(dropout=0.3)\n"
        "supervision = dict(main=dict(loss=dict(type='crossentropy')))\n"
        "optim = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))\n"
        "schedule = dict(epochs=10, warmup=0.25, power=0.5)\n"
        "data = dict(batch_size=3, augment=dict(flip=0.0))\n"
        "on = dict(synthetic=dict(optim=dict(optimizer=dict(type='AdamW', lr=0.01)), schedule=dict(steps=200)),\n"
        "          camvid=dict(schedule=dict(steps=7)))\n"
    )
    return path


def test_the_students_part_wins_over_the_data_sets_and_what_it_says_of_the_data_set_over_both(network: Path) -> None:
    cfg = compose(str(network), data="synthetic")
    assert cfg["model"]["network"] == {"type": "fast_scnn", "dropout": 0.3, "num_classes": 11}
    assert cfg["optim"]["optimizer"] == {"type": "AdamW", "lr": 0.01}  # another type takes the whole place
    assert cfg["schedule"] == {"val_interval": 100, "warmup": 50, "power": 0.5, "steps": 200}  # no epochs beside steps
    assert (cfg["data"]["batch_size"], cfg["data"]["workers"], cfg["data"]["augment"]["flip"]) == (3, 1, 0.0)
    assert cfg["data"]["augment"]["crop_size"] == (256, 512)


def test_a_recipe_wins_over_the_student_and_a_schedule_over_both(network: Path, tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(
        "binds = dict(a=dict(student='@logits', teacher='@logits', loss=dict(type='kd'), weight=2.0))\n"
        "schedule = dict(epochs=50)\n"
        "on = dict(synthetic=dict(binds=dict(a=dict(weight=5.0))))\n"
    )
    (tmp_path / "fast.py").write_text("schedule = dict(steps=30)\noptim = dict(optimizer=dict(type='Adam', lr=1.0))\n")
    words: dict[str, Any] = dict(teacher=TEACHER, recipe=tmp_path / "long.py", data="synthetic")
    cfg = compose(str(network), **words)
    assert (cfg["schedule"]["epochs"], "steps" in cfg["schedule"]) == (50, False)
    assert cfg["model"]["binds"]["a"]["weight"] == 5.0
    cfg = compose(str(network), **words, schedule=tmp_path / "fast.py")
    assert cfg["schedule"] == {"steps": 30}
    assert cfg["optim"] == {"optimizer": {"type": "Adam", "lr": 1.0}}
    assert cfg["data"]["batch_size"] == 3
    cfg = compose(str(network), **words, config=dict(seed=4), words=dict(steps=9, lr=0.5), overrides=["seed=5"])
    assert (cfg["seed"], cfg["schedule"]["steps"], cfg["optim"]["optimizer"]["lr"]) == (5, 9, 0.5)


def test_a_schedule_leaves_nothing_of_the_published_one() -> None:
    cfg = compose("espnet", data="camvid", schedule="gpu")
    assert cfg["schedule"] == {"steps": 9200, "val_interval": 460, "warmup": 200, "power": 0.9}
    assert compose("pspnet", data="camvid", schedule="gpu")["optim"].keys() == {"optimizer"}


def test_steps_take_the_place_of_epochs_and_shares_follow_them() -> None:
    short, published = (compose("fast_scnn", data="camvid", words=dict(steps=n))["schedule"] for n in (500, None))
    assert (published["steps"], published["warmup"], published["val_interval"]) == (2750, 50, 275)
    assert (short["steps"], short["warmup"], short["val_interval"]) == (500, 9, 100)  # no more often than that
    assert compose("fast_scnn", data="camvid", words=dict(steps=40))["schedule"]["val_interval"] == 40
    taught = compose("fast_scnn", teacher=TEACHER, recipe="ab", data="camvid", words=dict(steps=550))
    assert taught["model"]["binds"]["boundaries"]["first_stage"]["steps"] == 276  # 30 of 60 epochs
    assert compose("enet", data="camvid", words=dict(steps=300))["schedule"]["milestones"] == [100, 200]
    assert compose("fasterseg", data="camvid", words=dict(steps=300))["schedule"]["interval"] == 1


def test_epochs_are_counted_for_shares(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "camvid", {"train": 6, "val": 1, "test": 1}, (64, 96))
    cfg = compose("unet", data=dict(type="camvid"), root=root, words=dict(epochs=100, batch=4))
    assert cfg["schedule"]["warmup"] == round(100 * 6 / 4 / 92)
    assert "steps" not in cfg["schedule"]


def test_words_become_what_they_say_of_the_data(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "camvid", {"train": 6, "val": 1, "test": 1}, (64, 96))
    (contrast,) = compose("fast_scnn", teacher=TEACHER, recipe="crd", data="camvid", root=root)["model"][
        "binds"
    ].values()
    assert (contrast["loss"]["n_data"], contrast["loss"]["num_classes"]) == (6, 11)
    for data, classes in (("camvid", 11), ("cityscapes", 19)):
        binds = compose("fast_scnn", teacher=TEACHER, recipe="ifvd_full", data=data)["model"]["binds"]
        assert binds["variation"]["loss"]["num_classes"] == classes
        assert binds["pixel"]["weight"] == pytest.approx(10 / classes)
    assert binds["pixel"]["student"] == "@classifier"  # a role is no word


@pytest.mark.parametrize(("rule", "data"), PRINTED)
def test_class_weights_are_those_that_were_printed(rule: str, data: str) -> None:
    frequencies = data_source(data).frequencies
    assert frequencies is not None
    assert class_weights(rule, frequencies) == pytest.approx(PRINTED[rule, data], rel=1e-3)


def test_class_weights_of_other_data_are_counted(tmp_path: Path) -> None:
    """Where the data set's part says nothing of frequencies, the training labels do."""
    scenes = dict(type="synthetic", size=(32, 64), length=4, split="train")
    section = dict(dataset=dict(type="synthetic", size=(32, 64)), train=dict(split="train", length=4))
    cfg = compose("enet", data=section, size=(32, 64), words=dict(steps=5))
    labels = [create("synthetic", **{k: v for k, v in scenes.items() if k != "type"})[k].label for k in range(4)]
    counts = torch.bincount(torch.stack([torch.as_tensor(label) for label in labels]).flatten().long(), minlength=256)
    want = 1 / torch.log(1.02 + counts[:11] / counts.sum())
    got = cfg["model"]["supervision"]["main"]["loss"]["class_weight"]
    torch.testing.assert_close(torch.tensor(got), want, rtol=0, atol=1e-4)
    with pytest.raises(UserError, match="unknown class weights '@ent'; did you mean '@enet'"):
        settle({**cfg, "model": dict(loss=dict(class_weight="@ent"))})


def test_a_family_shares_its_part() -> None:
    resnet, pools = (compose(f"light_fpn_{name}", data="camvid") for name in ("resnet18", "poolformer_s12"))
    assert resnet["model"]["network"] == {"type": "light_fpn", "backbone": "resnet18", "num_classes": 11}
    assert (resnet["optim"], resnet["schedule"]) == (pools["optim"], pools["schedule"])
    assert [part_of(name) for name in ("espnet_c", "segformer_b4", "pspnet_r50", "dpt_vit_base", "smp")] == [
        "espnet_c", "segformer", "pspnet", "dpt_vit_base", None,
    ]  # fmt: skip


def test_networks_of_ones_own() -> None:
    by_text = compose(f"{__name__}:Own", data="synthetic")["model"]["network"]
    assert by_text == {"type": f"{__name__}.Own", "num_classes": 11}
    assert compose(Own, data="synthetic")["model"]["network"]["type"] is Own
    module = Own(11)
    assert compose(module, data="synthetic")["model"]["network"] is module
    assert student_part(dict(type="unet"))[0] == {"network": {"type": "unet"}}
    assert "supervision" not in compose(dict(type="stdc1"), data="synthetic")["model"]


def test_a_crop_size_holds_for_every_part() -> None:
    assert compose("pspnet", data="camvid", size=(64, 96))["data"]["augment"]["crop_size"] == (64, 96)


def test_a_teacher_without_a_recipe_is_followed_by_kd() -> None:
    model = compose("fast_scnn", teacher=TEACHER, data="camvid")["model"]
    assert model["binds"].keys() == {"pixel"}
    assert model["teacher"]["published"] == "camvid"
    assert model["supervision"].keys() == {"main", "aux_detail", "aux_context"}
    model = compose("fast_scnn", teacher="unet@unet.pth", binds="cwd", data="cityscapes")["model"]
    assert model["teacher"] == {"type": "unet", "num_classes": 19, "weights": "unet.pth"}
    assert model["binds"]["cwd"]["student"] == ""


def test_what_is_given_stays_as_it_was() -> None:
    given = dict(dataset=dict(type="synthetic"), train=dict(split="train"), val=dict(split="val"))
    before = copy.deepcopy((given, textual(BASE)))
    compose("fast_scnn", data=given, overrides=["engine.precision=fp32", "data.val.length=3"], words=dict(lr=1.0))
    assert (given, textual(BASE)) == before
    assert compose("fast_scnn", data="synthetic")["engine"]["precision"] == "auto"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (dict(student="fast_scn"), "unknown network 'fast_scn'; did you mean 'fast_scnn'"),
        (dict(student="my_fast.py"), r"no network 'my_fast.py': neither a file nor a shipped name"),
        (dict(recipe="mgd_cwdd"), "no recipe 'mgd_cwdd': neither a file nor a shipped name; did you mean 'mgd_cwd'"),
        (dict(schedule="gpus"), "no schedule 'gpus': .*did you mean 'gpu'"),
        (dict(data="camvidd"), "unknown data set 'camvidd'; did you mean 'camvid'"),
        (dict(data=None), "no data set: give data="),
        (dict(recipe="cwd", teacher=None), "no teacher: give teacher="),
        (dict(overrides=["schedule.stps=3"]), "did you mean 'steps'"),
        (dict(overrides=["schedule.steps=0"]), "schedule.steps must be an integer from 1, got 0"),
        (
            dict(student="unet", data="synthetic", overrides=["data.batch_size=0"]),
            "batch_size must be an integer from 1",
        ),
        (dict(config=dict(schedul={})), "did you mean 'schedule'"),
    ],
)
def test_what_does_not_exist_names_the_nearest(words: dict[str, Any], message: str) -> None:
    given = dict(student="fast_scnn", teacher=TEACHER, data="camvid")
    with pytest.raises(UserError, match=message):
        compose(**{**given, **words})


def test_a_file_of_another_network_must_name_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("schedule = dict(steps=3)\n")
    with pytest.raises(UserError, match="unknown network 'mine'"):
        compose(str(tmp_path / "mine.py"), data="camvid")
    (tmp_path / "mine.py").write_text("network = dict(type='unet')\nschedule = dict(steps=3)\n")
    cfg = compose(str(tmp_path / "mine.py"), data="camvid")
    assert (cfg["model"]["network"]["type"], cfg["schedule"]["steps"]) == ("unet", 3)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("stdc1", "--student stdc1 --data NAME"),
        ("recipes/mgd", "--student NAME --teacher TEACHER --recipe mgd --data NAME"),
        ("students/camvid/stdc1", "--student stdc1 --data camvid"),
        (str(composing.config_root() / "networks" / "stdc1.py"), "--student stdc1 --data NAME"),
    ],
)
def test_a_part_is_no_config(name: str, flags: str) -> None:
    with pytest.raises(UserError, match="is no config of its own: it is composed, by " + flags):
        load_config(name)


def test_there_are_parts_of_every_kind() -> None:
    made = {"folder", "concat", "subset", "huggingface"}  # of what the user names
    assert set(parts("data")) == set(DATASETS.names()) - made | {"synthetic_few"}
    assert {"gpu", "40k", "80k", "160k"} <= set(parts("schedules"))
    assert min(len(parts("networks")), len(parts("recipes"))) > 30


def test_a_part_answers_to_anothers_name_and_its_unlabelled_images_are_for_a_teacher() -> None:
    alone = compose("fast_scnn", data="synthetic_few")
    assert alone["schedule"] == compose("fast_scnn", data="synthetic")["schedule"]
    assert "unlabelled" not in alone["data"]
    taught = compose("fast_scnn", teacher="fast_scnn_camvid", recipe="kd", data="synthetic_few")
    assert taught["data"]["unlabelled"] == dict(split="train", seed=1, length=3200)
    assert {**taught["data"], "unlabelled": None} == {**alone["data"], "unlabelled": None}
