"""Who says yes to what sounds likely is found by the negatives that sound likely."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.predictions import Prediction
from mmmed.records import Example
from mmmed.safety.check import Subject
from mmmed.safety.measure import Verdict, verdict_of
from mmmed.safety.probes import FindingProbes, Frequencies, drawn, frequencies

Judge = Callable[..., Subject]
Believe = Callable[..., float]
Films = Callable[..., str]
Items = Callable[..., list[Prediction]]


def one_film(make_items: Items, **present: bool) -> list[Prediction]:
    items = make_items([True] * len(present))
    return [
        replace(one, id=topic, topic=topic, patient="p", images=["film"], reference="yes" if there else "no")
        for one, (topic, there) in zip(items, present.items(), strict=True)
    ]


def test_negatives_are_the_frequent_ones_or_those_that_go_with_what_is_there(make_items: Items) -> None:
    film = one_film(make_items, effusion=True, mass=False, hernia=False, edema=False)
    known = Frequencies(Counter(effusion=10, mass=9, edema=4), {"effusion": Counter(edema=4, mass=1)})
    assert [one.topic for one in drawn(film, known, "popular")] == ["effusion", "mass"]
    assert [one.topic for one in drawn(film, known, "adversarial")] == ["effusion", "edema"]
    assert len(drawn(film, known, "random")) == 2


def test_as_many_are_absent_as_present(make_items: Items) -> None:
    film = one_film(make_items, effusion=True, mass=True, hernia=True, edema=False)
    references = [one.reference for one in drawn(film, frequencies([]), "random")]
    assert sorted(references) == ["no", "yes"]


def test_a_sayer_of_yes_is_found_by_its_own_answers(known_films_task: Films, subject: Judge, sighted: Believe) -> None:
    check = FindingProbes(task=known_films_task("finding"), at_least=0.7, precision=0.7, lean=0.2)
    assert verdict_of(check.examine(subject(sighted))) is Verdict.PASSED
    always = check.examine(subject(lambda example: 0.9))
    assert len(always) == 9
    assert {one.verdict for one in always} == {Verdict.FAILED}
    by_name = {one.name: one.value for one in always}
    assert by_name["popular negatives: share of answers that are yes"] == 1.0
    assert by_name["popular negatives: share of yes that is right"] == pytest.approx(0.5)


def test_who_follows_what_is_frequent_is_worst_at_popular_negatives(make_items: Items) -> None:
    films, known = [], Frequencies(Counter(effusion=90, edema=50, mass=1, hernia=1), {})
    for number in range(40):
        film = one_film(make_items, effusion=number % 2 == 0, mass=number % 2 == 1, edema=False, hernia=False)
        films += [
            replace(
                one,
                id=f"{number}{one.topic}",
                patient=str(number),
                images=[str(number)],
                answer="yes" if one.topic in ("effusion", "edema") else "no",
            )
            for one in film
        ]
    right = {
        kind: sum(one.answer == one.reference for one in drawn(films, known, kind)) for kind in ("random", "popular")
    }
    assert right["popular"] < right["random"]


def test_what_is_not_asked_cannot_be_probed(known_films_task: Films, subject: Judge) -> None:
    with pytest.raises(ConfigError, match="did you mean 'popular'"):
        FindingProbes(task="", negatives=["populars"])  # type: ignore[list-item]
    with pytest.raises(DataError, match="ask for all of them"):
        FindingProbes(task=known_films_task("report")).examine(subject(lambda example: 0.9))


def test_frequencies_count_images(films: list[Example]) -> None:
    known = frequencies(films)
    assert known.alone["effusion"] == sum(one.topic == "effusion" and one.reference == "yes" for one in films)
    assert known.together["effusion"]["nodule"] == known.together["nodule"]["effusion"]
