from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segkd.errors import UserError
from segkd.evaluation.inference import (
    evaluate,
    with_flip,
    with_scales,
    with_views,
    with_windows,
)


def pointwise(image: Tensor) -> Tensor:
    """Logits that depend on the pixel alone: the channels themselves."""
    return image.float()


def leaning(image: Tensor) -> Tensor:
    """Logits that depend on the column: not mirror-symmetric."""
    ramp = torch.linspace(-1, 1, image.shape[-1]).expand_as(image[:, 0])
    return torch.stack([ramp, -ramp], 1) + image[:, :2].float() / 255


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_flip_is_the_mean_probability_of_both_views() -> None:
    image = picture(2, 3, 5, 7)
    want = (leaning(image).softmax(1) + leaning(image.flip(-1)).flip(-1).softmax(1)) / 2
    torch.testing.assert_close(with_flip(leaning)(image).softmax(1), want)


def test_flip_undoes_the_mirror() -> None:
    image = picture(1, 3, 5, 7)
    assert torch.equal(with_views(pointwise, flip=True)(image).argmax(1), image.argmax(1))


@pytest.mark.parametrize("size", [(20, 31), (8, 12), (5, 40), (9, 13)])
def test_windows_of_a_pointwise_function_change_nothing(size: tuple[int, int]) -> None:
    image = picture(2, 3, *size)
    torch.testing.assert_close(with_windows(pointwise, (8, 12), (5, 7))(image), pointwise(image))


def test_windows_average_their_overlap() -> None:
    seen: list[tuple[int, ...]] = []

    def constant(image: Tensor) -> Tensor:
        seen.append(tuple(image.shape[-2:]))
        return torch.full((1, 2, *image.shape[-2:]), float(len(seen)))

    got = with_windows(constant, (4, 6), (4, 3))(picture(1, 3, 4, 9))
    assert seen == [(4, 6), (4, 6)]
    assert got[0, 0, 0].tolist() == [1, 1, 1, 1.5, 1.5, 1.5, 2, 2, 2]


def test_last_window_ends_at_the_edge() -> None:
    widths: list[float] = []

    def record(image: Tensor) -> Tensor:
        widths.append(float(image[0, 0, 0, 0]))
        return image.float()

    image = torch.arange(10, dtype=torch.uint8).expand(1, 3, 4, 10)
    with_windows(record, (4, 4), (4, 4))(image)
    assert widths == [0, 4, 6]


def test_windows_with_gaps_are_refused() -> None:
    with pytest.raises(UserError, match="gaps"):
        with_windows(pointwise, (4, 4), (5, 4))


def test_scale_one_is_the_softmax_and_others_are_averaged() -> None:
    image = picture(1, 3, 8, 10)
    torch.testing.assert_close(with_scales(leaning, (1.0,))(image).softmax(1), leaning(image).softmax(1))
    big = F.interpolate(image.float(), size=(16, 20), mode="bilinear").round().to(torch.uint8)
    back = F.interpolate(leaning(big), size=(8, 10), mode="bilinear")
    want = (leaning(image).softmax(1) + back.softmax(1)) / 2
    torch.testing.assert_close(with_scales(leaning, (1.0, 2.0))(image).softmax(1), want)
    with pytest.raises(UserError, match="positive"):
        with_scales(leaning, (1.0, 0.0))


def test_views_nest() -> None:
    image = picture(2, 3, 20, 30)
    want = with_flip(with_scales(with_windows(leaning, (9, 9), (6, 6)), (0.5, 1.0)))(image)
    assert torch.equal(with_views(leaning, flip=True, scales=(0.5, 1.0), window=(9, 9))(image), want)
    assert with_views(leaning) is leaning


def batches(count: int, classes: int = 3) -> list[dict[str, Tensor]]:
    result = []
    for i in range(count):
        image = picture(2, 3, 6, 9, seed=i)
        label = image[:, :classes].argmax(1)
        label[:, 0] = 255
        result.append({"image": image, "label": label, "index": torch.tensor([10 + 2 * i, 11 + 2 * i])})
    return result


def test_evaluate_counts_everything_once() -> None:
    seen: list[int] = []
    scores = evaluate(pointwise, batches(3), 3, progress=seen.append)
    assert (scores.miou, scores.pixels) == (100, 3 * 2 * 5 * 9)
    assert seen == [2, 2, 2]
    wrong = evaluate(lambda image: -image.float(), batches(3), 3)
    assert wrong.miou < 5


def test_evaluate_resizes_logits_to_the_label() -> None:
    def half(image: Tensor) -> Tensor:
        return F.interpolate(image.float(), scale_factor=0.5, mode="bilinear")

    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[:, 1, :, 4:] = 255
    image[:, 0, :, :4] = 255
    batch = {"image": image, "label": image.argmax(1)}
    assert evaluate(half, [batch], 3).miou == 100


def test_evaluate_names_the_image_of_a_bad_label() -> None:
    data = batches(2)
    data[1]["label"][1, 2, 4] = 7
    with pytest.raises(UserError, match=r"image 13: label 7 at row 2, column 4 is outside the 3 classes"):
        evaluate(pointwise, data, 3)
    for batch in data:
        del batch["index"]
    with pytest.raises(UserError, match="image 3: label 7"):
        evaluate(pointwise, data, 3)


def test_evaluate_refuses_other_class_counts_and_nothing() -> None:
    with pytest.raises(UserError, match="3 classes, the data set has 4"):
        evaluate(pointwise, batches(1), 4)
    with pytest.raises(UserError, match="no image"):
        evaluate(pointwise, [], 3)


def test_no_gradient_is_kept() -> None:
    weight = torch.ones(1, requires_grad=True)
    scores = evaluate(lambda image: image.float() * weight, batches(1), 3)
    assert scores.miou == 100
    assert weight.grad is None
