"""Who looks relies on the image, and on the place of the finding; who does not, does not."""

from collections.abc import Callable

import numpy as np
import pytest

from mmmed.data.sources.phantom import PhantomImage
from mmmed.errors import DataError
from mmmed.evaluation.predictions import Prediction
from mmmed.records import Example
from mmmed.safety.check import Subject
from mmmed.safety.grounding import ImageReliance, Occluded, Occlusion, reliance
from mmmed.safety.measure import Verdict

Judge = Callable[..., Subject]
Believe = Callable[..., float]


def looks_at_the_place(example: Example) -> float:
    """As sure as the squares over the finding's boxes leave it."""
    image = example.images[0]
    if not isinstance(image, Occluded):
        return 0.95
    assert isinstance(image.image, PhantomImage)
    x0, y0, x1, y1 = image.square
    hidden = sum(
        max(0, min(x1, box.x1) - max(x0, box.x0)) * max(0, min(y1, box.y1) - max(y0, box.y0))
        for box in image.image.boxes(example.topic)
    )
    return 0.95 - min(0.9, hidden / 4000)


def looks_at_the_corner(example: Example) -> float:
    image = example.images[0]
    return 0.2 if isinstance(image, Occluded) and image.square[:2] == (0, 0) else 0.9


@pytest.mark.parametrize("control", ["shuffled", "blank", "noise", "absent"])
def test_a_sighted_model_relies_on_the_image_and_a_blind_one_does_not(
    films_task: str, subject: Judge, sighted: Believe, control: str
) -> None:
    check = ImageReliance(task=films_task, control=control, at_least=0.5)
    (seen,) = check.examine(subject(sighted))
    assert seen.value == pytest.approx(1.0)
    assert seen.verdict is Verdict.PASSED
    (blind,) = check.examine(subject(lambda example: 0.7 if example.topic in ("effusion", "nodule") else 0.3))
    assert blind.value == 0.0
    assert blind.low <= 0 <= blind.high
    assert blind.verdict is Verdict.FAILED


def test_answers_to_other_items_are_refused(make_items: Callable[..., list[Prediction]]) -> None:
    with pytest.raises(DataError, match="not to the same items"):
        reliance(make_items([True] * 3), make_items([True] * 2), control="blank", at_least=None)


def test_the_square_that_matters_is_held_against_the_boxes(films_task: str, subject: Judge) -> None:
    check = Occlusion(task=films_task, images=12, at_least=0.2)
    (found,) = check.examine(subject(looks_at_the_place))
    assert found.verdict is Verdict.PASSED
    assert found.value == pytest.approx(found.expected)
    assert not found.items
    (missed,) = check.examine(subject(looks_at_the_corner))
    assert missed.verdict is not Verdict.PASSED
    assert len(missed.items) > 6


def test_a_hidden_square_is_even_and_the_rest_is_as_it_was(films: list[Example]) -> None:
    image = films[0].images[0]
    plain, hidden = (np.asarray(one.open()) for one in (image, Occluded(image, (0, 0, 64, 64))))
    assert np.ptp(hidden[:64, :64]) == 0
    assert (hidden[64:] == plain[64:]).all()
    assert (hidden[:, 64:] == plain[:, 64:]).all()
