"""The rules by which measured numbers become advice; every threshold is named here, with its reason."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from segkd.workbench.answers import ALL, AUGMENT, COLOUR, CROP, MIRROR, SCALE, TEMPERATURES, Answers
from segkd.workbench.pulls import Pull

#: points of pixel accuracy that an augmentation may cost the teacher: CamVid's published ESPNet lost 5 by varied
#: colours and 22 at half size, and taught nothing with both; without them its student gained (README, CamVid)
LOSS_ALLOWED = 3.0
#: steps of a scale that is advised: its accuracy is interpolated, not measured
GRID = 0.05
#: points of mIoU on val by which a teacher must lead its student: a second seed alone moved val by up to 2.2
#: (configs/recipes/README.md)
LEAD = 2.0
#: of what the commonest class everywhere leaves wrong, the part that a teacher must get right
SKILL = 0.5
#: points of pixel accuracy between train and val above which answers on training images are largely learnt by heart
OVERFIT = 5.0
#: IoU below which more pixels of a class are wrong (missed or invented) than right
WEAK = 50.0
#: percent of probability for other classes than the strongest, below which soft answers are hard labels
SOFT = 2.0
#: temperatures so near to 1 are 1: the likelihood hardly changes
NEAR_ONE = (0.8, 1.25)
#: of a teacher whose probabilities are so far off, correlations are compared, which go less by its confidence
CONFIDENT = 1.5
#: gradient of a term by that of the labels, where both meet: below it is hardly heard, above it leads
PULL = (0.1, 1.0)
#: what a term outside of that is brought to: the middle, as the ratio changes while a student learns
AIM = math.sqrt(PULL[0] * PULL[1])

#: losses that compare softmaxes over the classes, whose temperature is the one that is advised
OVER_CLASSES = ("kd", "dkd", "dist")
YES, HARDLY, UNKNOWN = "yes", "hardly", "unknown"


class Finding(NamedTuple):
    """A conclusion, and the rule and numbers that it rests on."""

    says: str
    because: str


class Recipe(NamedTuple):
    """The name of a loss to begin with, and why."""

    name: str
    because: str


Row = Mapping[str, Any]
Rule = tuple[dict[str, Any], list[Finding]]


def augmentation(rows: Sequence[Row], arguments: Sequence[str], crop: Any, size: tuple[int, int]) -> Rule:
    """Settings of ``data.augment`` that stay within what the teacher knows, of those that it has as ``arguments``.

    ``crop`` is its crop_size, if it has one; ``size`` is (H, W) of the training images.
    """
    own = _one(rows, SCALE, 1.0)["train_accuracy"]
    scale, about_scale = _scales(rows)
    colours, about_colours = _colours(rows, own)
    mirrored = _one(rows, MIRROR)["train_accuracy"]
    flip = own - mirrored <= LOSS_ALLOWED
    wanted = {"scale": scale, "photometric": colours, "flip": 0.5 if flip else 0.0}
    found = [about_scale, *_padding(rows, scale[0], crop, size), about_colours]
    if not flip:
        why = f"mirrored images take it from {own:.1f} to {mirrored:.1f} % ({LOSS_ALLOWED:g} points are allowed)"
        found.append(Finding("do not mirror", why))
    now = _one(rows, AUGMENT)["train_accuracy"]
    found.append(
        Finding(
            f"as this config augments, the teacher gets {now:.1f} % of the training pixels right",
            f"as they are it gets {own:.1f} %",
        )
    )
    return {f"data.augment.{key}": value for key, value in wanted.items() if key in arguments}, found


def _scales(rows: Sequence[Row]) -> tuple[tuple[float, float], Finding]:
    """The sizes around the best one at which the teacher is nearly as good, in steps of ``GRID``."""
    scores = {row["value"]: row["train_accuracy"] for row in rows if row["group"] == SCALE}
    factors, best = sorted(scores), max(scores, key=lambda factor: scores[factor])
    least, at = scores[best] - LOSS_ALLOWED, factors.index(best)
    low, high = _reach(factors[at::-1], scores, least), _reach(factors[at:], scores, least)
    low, high = math.ceil(low / GRID - 1e-9) * GRID, math.floor(high / GRID + 1e-9) * GRID
    scale = (round(min(low, best), 2), round(max(high, best), 2))
    listed = ", ".join(f"{scores[factor]:.1f} % at x {factor:g}" for factor in factors)
    why = f"of the training pixels, images as a whole, it gets {listed}; between them by a straight line, "
    why += f"it is within {LOSS_ALLOWED:g} points of its best there"
    return scale, Finding(f"scale images by {scale[0]:g} to {scale[1]:g}", why)


def _reach(factors: Sequence[float], scores: Mapping[float, float], least: float) -> float:
    """How far from the first of ``factors`` scores stay at ``least`` or above, by straight lines between them."""
    for near, far in itertools.pairwise(factors):
        if scores[far] < least:
            return near + (far - near) * (scores[near] - least) / (scores[near] - scores[far])
    return factors[-1]


def _padding(rows: Sequence[Row], lowest: float, crop: Any, size: tuple[int, int]) -> list[Finding]:
    """What crops that are larger than the image cost, at the sizes that are shown."""
    whole = {row["value"]: row["train_accuracy"] for row in rows if row["group"] == SCALE}
    cut = {row["value"]: row["train_accuracy"] for row in rows if row["group"] == CROP and row["value"] != ALL}
    if 1.0 not in cut or not isinstance(crop, list | tuple):
        return []
    found = []
    for factor in sorted(cut):
        if not lowest <= factor < 1:
            continue
        lost = (whole[factor] - cut[factor]) - (whole[1.0] - cut[1.0])  # the crops' mirror images cost as much at 1
        room = tuple(int(side * factor) for side in size)
        if lost > LOSS_ALLOWED and (crop[0] > room[0] or crop[1] > room[1]):
            why = f"at x {factor:g} it gets {cut[factor]:.1f} % in crops, padded to {crop[0]}x{crop[1]}, and "
            why += f"{whole[factor]:.1f} % of whole images; a crop_size of {room[0]},{room[1]} needs no padding there "
            why += "(what smaller crops cost the student is not measured)"
            found.append(Finding(f"padding costs it {lost:.1f} points at x {factor:g}", why))
    return found


def _colours(rows: Sequence[Row], own: float) -> tuple[bool, Finding]:
    scores = {row["value"]: row["train_accuracy"] for row in rows if row["group"] == COLOUR}
    every, single = scores[ALL], {k: v for k, v in scores.items() if k != ALL}
    worst = min(single, key=lambda name: single[name])
    allowed = own - every <= LOSS_ALLOWED
    why = f"varied colours take it from {own:.1f} to {every:.1f} %, {worst} alone to {single[worst]:.1f} %"
    why += f" ({LOSS_ALLOWED:g} points are allowed)"
    return allowed, Finding("vary colours" if allowed else "leave colours as they are", why)


def _one(rows: Sequence[Row], group: str, value: Any = None) -> Row:
    return next(row for row in rows if row["group"] == group and value in (None, row["value"]))


def where_right(train: Answers, val: Answers, own: str, classes: Sequence[Row]) -> list[Finding]:
    """What images that it was not trained on, borders and classes show of the teacher; ``own`` is the view as it is."""
    a, b = train.views[own], val.views[own]
    gap = a.pixel_accuracy - b.pixel_accuracy
    scores = f"train {a.pixel_accuracy:.1f} % right ({a.miou:.1f} mIoU), val {b.pixel_accuracy:.1f} % ({b.miou:.1f})"
    if gap > OVERFIT:
        text = "the teacher has learnt its training images by heart: there its answers repeat labels"
        found = [Finding(text, f"{scores}: {gap:.1f} points apart, {OVERFIT:g} are allowed")]
    else:
        found = [Finding("the teacher holds on images that it has not seen", f"{scores}: {gap:.1f} points apart")]
    bands = [row for row in val.borders if row["share"] > 0]
    near, far = bands[0], bands[-1]
    found.append(
        Finding(
            f"at borders of labels it gets {near['accuracy']:.1f} % right, {far['accuracy']:.1f} % farthest from them",
            f"{near['share']:.1f} % of val's pixels touch another label, {far['share']:.1f} % lie "
            f"{far['from']} pixels or more away",
        )
    )
    weak = [f"{row['class']} {row['val_iou']:.0f}" for row in classes if row["val_iou"] < WEAK]
    if weak:
        why = f"val IoU below {WEAK:g}: more of their pixels are wrong than right"
        found.append(Finding(f"it is a poor guide for {', '.join(weak)}", why))
    return found


def temperature(train: Answers, val: Answers) -> tuple[float | None, list[Finding]]:
    """The temperature for softmaxes over the classes (None: not to be told), and how soft the answers are."""
    sure, t = val.confidence, val.confidence.temperature
    said = f"val: {sure.confidence:.1f} % sure on average, {sure.accuracy:.1f} % right, off by {sure.error:.1f} points"
    if t < TEMPERATURES[0] * 1.01 or t > TEMPERATURES[1] / 1.01:
        advised, text = None, "its temperature cannot be told: the likelihood only grows towards a limit"
    elif NEAR_ONE[0] <= t <= NEAR_ONE[1]:
        advised, text = 1.0, "leave its probabilities as they are: temperature 1"
    else:
        advised, text = round(t, 1), f"it is too {'sure' if t > 1 else 'unsure'}: temperature {t:.1f}"
    found = [Finding(text, f"{said}; val's labels are likeliest at T = {t:.2f}")]
    soft, second = train.confidence.soft, val.confidence.second
    more = f"they give {soft:.1f} % to other classes than the strongest (train), {val.confidence.soft:.1f} % (val)"
    if not math.isnan(second):
        more += f"; where it is wrong on val, {second:.0f} % have the label second"
    says = "its answers say more than labels do" if soft >= SOFT else "its answers are hard labels, hardly more"
    return advised, [*found, Finding(says, f"{more} ({SOFT:g} % is the least)")]


def recipe(train: Answers, val: Answers) -> Recipe:
    """The loss to begin with, by how soft and how sure the teacher is."""
    if train.confidence.soft < SOFT:
        return Recipe("cwd", "its class probabilities repeat labels; CWD compares where in the image each class is")
    t = val.confidence.temperature
    if not 1 / CONFIDENT <= t <= CONFIDENT:
        why = f"its confidence is off (T = {t:.1f}); DIST compares correlations, which go less by it"
        return Recipe("dist", why)
    return Recipe("kd", f"its probabilities are soft and fit val's labels (T = {t:.1f}): compare them as they are")


def weights(pulls: Sequence[Pull]) -> tuple[dict[str, float], list[Finding]]:
    """The weight of each term by its pull beside the labels'."""
    advised, found = {}, []
    for pull in pulls:
        where = f"at {pull.layer}" if pull.layer else "to all of the student, as no layer is shared"
        if pull.norm == 0 or math.isnan(pull.ratio):
            why = "a memory that is still empty, a first stage that has not run, or a tap that it does not reach"
            found.append(Finding(f"{pull.term} ({pull.loss}) pulls at nothing in these batches", why))
            continue
        keeps = PULL[0] <= pull.ratio <= PULL[1]
        weight = pull.weight if keeps else float(f"{pull.weight * AIM / pull.ratio:.2g}")
        advised[pull.term] = weight
        says = f"{pull.term} ({pull.loss}): {'keep ' if keeps else ''}weight {weight:g}"
        why = f"with {pull.weight:g} it pulls {pull.ratio:.2g} times as hard as the labels at the student's start, "
        why += where
        why += "" if keeps else f": {PULL[0]:g} to {PULL[1]:g} is meant, {AIM:.2g} aimed at"
        why += ", its first stage not yet run" if pull.first_stage else ""
        found.append(Finding(says, why))
    return advised, found


def verdict(train: Answers, val: Answers, own: str, classes: Sequence[Row], baseline: str) -> tuple[str, list[Finding]]:
    """Yes, hardly or unknown: will distillation help; ``baseline`` says how to train the student alone."""
    accuracy = train.views[own].pixel_accuracy
    skill = (accuracy - train.commonest) / (100 - train.commonest) if train.commonest < 100 else math.nan
    if skill < SKILL:
        why = f"{accuracy:.1f} % of the training pixels right, where the commonest class everywhere gets "
        why += f"{train.commonest:.1f} % and labels 100 %: less than {100 * SKILL:g} % of the way. Check its weights, "
        return HARDLY, [Finding("distillation will hardly help: this teacher is none", why + "classes and colours")]
    if val.student is None:
        why = f"how much it leads the student is not known; {baseline}"
        return UNKNOWN, [Finding("nobody can say yet if distillation will help", why)]
    lead = val.views[own].miou - val.student.miou
    scores = f"val mIoU {val.views[own].miou:.1f} against the student's {val.student.miou:.1f}"
    alone = (
        f"it alone is right at {val.only_teacher:.1f} % of the pixels, the student alone at {val.only_student:.1f} %"
    )
    if lead < LEAD:
        text = "distillation will hardly help: the teacher is hardly better than the student"
        text = text if lead >= 0 else "distillation will hardly help: the student is better than its teacher"
        return HARDLY, [Finding(text, f"{scores}; {LEAD:g} points are what a seed moves; {alone}")]
    found = [Finding("the teacher has room to teach", f"{scores}; {alone}")]
    for sign, text in ((1, "most room"), (-1, "harm: the student is better")):
        rooms = sorted((-sign * row["room"], row["class"]) for row in classes if sign * row["room"] >= LEAD)
        if rooms:
            listed = ", ".join(f"{name} {-sign * room:+.1f}" for room, name in rooms[:4])
            found.append(Finding(f"{text}: {listed}", "IoU of the teacher less that of the student, val"))
    return YES, found
