"""A control changes what is seen and nothing else."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.controls import (
    CONTROLS,
    FLOORS,
    absent,
    blank,
    control_named,
    noise,
    option_shuffle,
    shuffled,
)
from mmmed.records import IMAGE_PLACEHOLDER, Example

Make = Callable[..., Example]


def names(example: Example) -> list[str]:
    return [image.name for image in example.images]


@pytest.fixture
def many(make_example: Make) -> list[Example]:
    """Seven patients with one to three films and two questions on each, the last about two films at once."""
    films = [(patient, 10 * patient + film) for patient in range(7) for film in range(patient % 3 + 1)]
    examples = [
        make_example(f"{film}/{word}", f"Is there {word}?", "yes", film, patient=f"p{patient}")
        for patient, film in films
        for word in ("effusion", "a nodule")
    ]
    return [*examples, make_example("both", "What changed?", "nothing", 20, 21, patient="p2")]


def test_shuffled_never_shows_a_patient_an_image_of_their_own(many: list[Example]) -> None:
    own = {patient: {n for one in many if one.patient == patient for n in names(one)} for patient in {"p0", "p2", "p6"}}
    for example in shuffled(many):
        assert not own.get(example.patient, set()) & set(names(example))


def test_all_questions_of_a_patient_get_the_same_other_patients_image(many: list[Example]) -> None:
    donors: dict[str, set[str]] = {}
    for example in shuffled(many):
        donors.setdefault(example.patient, set()).add(names(example)[0])
    assert all(len(given) == 1 for given in donors.values())
    assert len({given.pop() for given in donors.values()}) == len(donors), "each patient's image goes to one other"


def test_a_question_about_two_films_gets_two_films_where_the_other_patient_has_them(make_example: Make) -> None:
    first = [make_example("a", "?", "yes", 1, patient="p1"), make_example("b", "?", "yes", 1, 2, patient="p1")]
    second = make_example("c", "?", "yes", 3, 4, patient="p2")
    assert names(shuffled([*first, second])[2]) == ["film:1", "film:2"]


def test_shuffled_is_the_same_every_time(many: list[Example]) -> None:
    assert list(map(names, shuffled(many))) == list(map(names, shuffled(many)))


def test_shuffled_leaves_a_question_without_images_alone(make_example: Make) -> None:
    text = make_example("text", "Is that so?", "yes", patient="p1")
    assert shuffled([text, make_example("a", "?", "a", 1), make_example("b", "?", "b", 2)])[0] == text


def test_shuffled_of_one_patient_is_refused(make_example: Make) -> None:
    one = [make_example(str(film), "?", "yes", film, patient="p") for film in (1, 2)]
    with pytest.raises(DataError, match="images of two patients"):
        shuffled(one)


def test_blank_images_are_all_equal(many: list[Example]) -> None:
    pictures = [np.asarray(image.open()) for example in blank(many) for image in example.images]
    assert all(np.array_equal(pictures[0], picture) for picture in pictures)
    assert np.unique(pictures[0]).tolist() == [128]


def test_noise_depends_on_the_original_alone(many: list[Example]) -> None:
    first, second, other = (noise(many)[index].images[0] for index in (0, 1, 2))
    assert np.array_equal(first.open(), noise(many)[0].images[0].open())
    assert np.array_equal(first.open(), second.open()), "two questions about one film see the same noise"
    assert not np.array_equal(first.open(), other.open())
    assert first.name == second.name != other.name


def test_absent_takes_image_and_placeholder_out(many: list[Example]) -> None:
    for example in absent(many):
        assert not example.images
        assert not any(IMAGE_PLACEHOLDER in turn.text for turn in example.turns)


@pytest.mark.parametrize("name", [*CONTROLS, *FLOORS])
def test_a_control_leaves_question_reference_and_order_alone(name: str, many: list[Example]) -> None:
    seen = control_named(name)(many)
    assert [(one.id, one.patient, one.question, one.reference) for one in seen] == [
        (one.id, one.patient, one.question, one.reference) for one in many
    ]


def test_shuffled_options_are_the_same_in_an_order_that_is_always_another(many: list[Example]) -> None:
    asked = [replace(one, options=("yes", "no", "nothing")) for one in many] + [replace(many[0], options=("yes", "no"))]
    orders = set()
    for example, seen in zip(asked, option_shuffle(asked), strict=True):
        assert sorted(seen.options) == sorted(example.options)
        assert seen.options != example.options
        orders.add(seen.options)
    assert len(orders) > 3
    assert option_shuffle(asked) == option_shuffle(asked)
    assert option_shuffle(many)[0].options == many[0].options == (), "open questions have none"


def test_an_unknown_control_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown control 'blnk' \(did you mean 'blank'\?\)"):
        control_named("blnk")
