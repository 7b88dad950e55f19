"""Merged conversations lose no question, and show each film once."""

from collections import Counter
from collections.abc import Callable

from mmmed.data.conversation import merge
from mmmed.data.sources.phantom import PhantomSource
from mmmed.records import Example, Quarantined


def said(examples: list[Example]) -> Counter[tuple[str, str, str]]:
    """Patient, question and answer of each pair of turns."""
    pairs: Counter[tuple[str, str, str]] = Counter()
    for example in examples:
        texts = [turn.text.replace("<image>", "").strip() for turn in example.turns]
        pairs.update((example.patient, *pair) for pair in zip(texts[::2], texts[1::2], strict=True))
    return pairs


def phantoms() -> list[Example]:
    return [one for one in PhantomSource(count=5).records() if not isinstance(one, Quarantined)]


def test_merging_keeps_every_answer_and_one_image() -> None:
    examples = phantoms()
    merged = merge(examples, most_turns=4, seed=0)
    assert said(merged) == said(examples)
    assert len(merged) < len(examples)
    assert all(len(one.images) == 1 and len(one.turns) <= 8 for one in merged)
    assert all(not one.options for one in merged if len(one.turns) > 2)
    assert all(one.turns[0].text.startswith("<image>") for one in merged)


def test_all_questions_about_a_film_are_joined_where_no_answer_is_read_before_another() -> None:
    examples = phantoms()
    merged = merge(examples, most_turns=99, seed=0, join="all")
    assert said(merged) == said(examples)
    assert len(merged) == len({one.images[0].name for one in examples})


def test_each_question_is_at_times_the_first() -> None:
    merged = [merge(phantoms(), most_turns=99, seed=seed) for seed in range(20)]
    assert len({next(one for one in films if len(one.turns) > 2).turns[0].text for films in merged}) > 3


def test_merging_is_the_same_every_time() -> None:
    assert merge(phantoms(), most_turns=4, seed=3) == merge(phantoms(), most_turns=4, seed=3)


def test_other_patients_films_and_text_alone_stay_apart(make_example: Callable[..., Example]) -> None:
    examples = [
        make_example("a", "Is there?", "yes", 1),
        make_example("b", "Is there?", "yes", 1, patient="another"),
        make_example("c", "Is there?", "yes", 1, 2, patient="patient (1,)"),
        make_example("d", "Is there?", "yes", patient="patient (1,)"),
        make_example("e", "Is there?", "no", patient="patient (1,)"),
    ]
    assert sorted(one.id for one in merge(examples, most_turns=9, seed=0)) == ["a", "b", "c", "d", "e"]


def test_one_turn_each_merges_nothing(examples: list[Example]) -> None:
    assert sorted(one.id for one in merge(examples, most_turns=1, seed=0)) == sorted(one.id for one in examples)
