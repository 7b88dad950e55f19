"""A question is put in the words of its task, with letters and shots where they are asked for."""

from collections.abc import Callable

import pytest

from mmmed.errors import ConfigError, DataError
from mmmed.inference.prompting import NO_CONTENT, Form, put
from mmmed.inference.shots import Shots, choose_shots
from mmmed.records import IMAGE_PLACEHOLDER, Example

MakeExample = Callable[..., Example]
LETTERED = Form(prompt="Question: {question}\n{options}\nAnswer:", answer="letters")


def test_letters_stand_for_the_options(make_example: MakeExample) -> None:
    asked = put(make_example("a", "Where?", "right", 3, options=("left", "right")), LETTERED)
    assert asked.options == ("A", "B")
    assert asked.reference == "B"
    assert asked.turns[0].text == f"{IMAGE_PLACEHOLDER}\nQuestion: Where?\nA. left\nB. right\nAnswer:"
    assert [image.name for image in asked.images] == ["film:3"]


def test_shots_come_first_with_their_answers_and_images(make_example: MakeExample) -> None:
    options = ("left", "right")
    shot = make_example("s", "And here?", "left", 1, options=options)
    asked = put(make_example("a", "Where?", "right", 2, options=options), LETTERED, shots=[shot])
    assert [turn.speaker for turn in asked.turns] == ["user", "assistant", "user", "assistant"]
    assert asked.turns[1].text == "A"
    assert [image.name for image in asked.images] == ["film:1", "film:2"]


def test_an_instruction_stands_before_everything(make_example: MakeExample) -> None:
    form = Form(instruction="You are a radiologist.")
    asked = put(make_example("a", "Where?", "right"), form, shots=[make_example("s", "And?", "left")])
    assert asked.turns[0].text == "You are a radiologist.\n\nAnd?"
    assert asked.turns[2].text == "Where?"


def test_without_content_nothing_is_asked_or_shown(make_example: MakeExample) -> None:
    asked = put(make_example("a", "Where?", "right", 2, options=("left", "right")), LETTERED, content=False)
    assert asked.images == ()
    assert asked.turns[0].text == f"Question: {NO_CONTENT}\nA. left\nB. right\nAnswer:"


def test_braces_of_the_source_are_left_alone(make_example: MakeExample) -> None:
    assert put(make_example("a", "What is {x}?", "y"), Form()).question == "What is {x}?"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "Say something"}, "expected {question} in it"),
        ({"prompt": "{question} {option}"}, "unknown {option}; known are question, options, passages"),
        ({"prompt": "{question"}, "write a literal brace twice"),
        ({"answer": "letters"}, "letters mean nothing without {options}"),
        ({"answer": "numbers"}, "expected text or letters"),
    ],
)
def test_a_form_that_cannot_be_is_one_line(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("{", r"\{").replace("}", r"\}")):
        Form(**settings)


@pytest.fixture
def pool(make_example: MakeExample) -> list[Example]:
    words = ["pleural effusion left", "heart size", "rib fracture", "lung nodule", "catheter tip", "spine"]
    return [make_example(str(n), f"Is there {word}?", "no", patient=f"p{n}") for n, word in enumerate(words)]


def test_fixed_shots_are_the_same_for_all_but_their_own(pool: list[Example], make_example: MakeExample) -> None:
    asked = [make_example(name, "?", "no", patient=name) for name in "ab"]
    first, second = choose_shots(asked, pool, Shots(count=3))
    assert first == second
    for one, shots in zip(pool, choose_shots(pool, pool, Shots(count=3)), strict=True):
        assert len(shots) == 3
        assert one.patient not in {shot.patient for shot in shots}


def test_random_shots_depend_on_seed_and_question_alone(pool: list[Example], make_example: MakeExample) -> None:
    asked = [make_example(name, "?", "no", patient=name) for name in "abcdef"]
    drawn = choose_shots(asked, pool, Shots(count=2, choice="random"))
    assert len({tuple(shot.id for shot in shots) for shots in drawn}) > 1
    assert choose_shots(asked[::-1], pool, Shots(count=2, choice="random")) == drawn[::-1]
    assert choose_shots(asked, pool, Shots(count=2, choice="random", seed=1)) != drawn


def test_the_nearest_shot_stands_last(pool: list[Example], make_example: MakeExample) -> None:
    (shots,) = choose_shots([make_example("x", "A nodule of the lung?", "no")], pool, Shots(count=2, choice="nearest"))
    assert shots[-1].question == "Is there lung nodule?"


def test_too_small_a_pool_is_one_line(pool: list[Example]) -> None:
    with pytest.raises(DataError, match="5 examples to show before it; expected 6"):
        choose_shots(pool[:1], pool, Shots(count=6))
