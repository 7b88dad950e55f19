"""The strategies give each question an answer in its own options, or what was said where none was named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from mmmed.errors import ConfigError
from mmmed.inference.asking import Asking, answer
from mmmed.inference.generation import Decoding
from mmmed.inference.prompting import Form
from mmmed.inference.scoring import Likelihoods, Rule
from mmmed.inference.session import Session
from mmmed.records import Answer, Example

MakeExample = Callable[..., Example]
LETTERED = Form(prompt="{question}\n{options}\nAnswer:", answer="letters")


@dataclass
class Scripted:
    """Says what it is told to, in order."""

    said: list[str]
    heard: list[Example] = field(default_factory=list)

    def choose(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        self.heard += examples
        return [Answer(text=one.options[-1], options=dict.fromkeys(one.options, 0.5)) for one in examples]

    def write(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        self.heard += examples
        settings["advance"](len(examples))
        return [Answer(text=self.said.pop(0)) for _ in examples]


def test_letters_become_texts_again(make_example: MakeExample) -> None:
    example = make_example("a", "Where?", "left", options=("left", "right"))
    (said,) = answer(Scripted([]), [example], Asking(form=LETTERED))
    assert said == Answer(text="right", options={"left": 0.5, "right": 0.5})


def test_a_chain_of_thought_ends_in_an_option_or_is_unparsed(make_example: MakeExample) -> None:
    examples = [make_example(name, "Where?", "left", options=("left", "right")) for name in "ab"]
    scripted = Scripted(["It lies left of the spine.\nAnswer: B", "I do not know."])
    told: list[int] = []
    said = answer(
        scripted, examples, Asking(form=LETTERED, strategy="chain_of_thought"), advance=lambda count: told.append(count)
    )
    assert [one.text for one in said] == ["right", "I do not know."]
    assert dict(said[1].options) == {"left": 0.0, "right": 0.0}
    assert sum(told) == 2
    assert "Think step by step" in scripted.heard[0].question
    assert not scripted.heard[0].question.startswith("Answer:")


def test_a_written_answer_stays_as_it_is_and_the_option_it_names_has_all_of_the_share(
    make_example: MakeExample,
) -> None:
    examples = [make_example(name, "Is it so?", "yes", options=("yes", "no")) for name in "abc"]
    said = answer(Scripted(["Yes, it is.", "yes no", "?"]), examples, Asking(strategy="written"))
    assert [one.text for one in said] == ["Yes, it is.", "yes no", "?"]
    none = {"yes": 0.0, "no": 0.0}
    assert [dict(one.options) for one in said] == [{"yes": 1.0, "no": 0.0}, none, none]
    lettered = make_example("d", "Where?", "left", options=("left", "right"))
    (one,) = answer(Scripted(["(B) right"]), [lettered], Asking(form=LETTERED, strategy="written"))
    assert one.text == "right"


def test_a_vote_counts_what_names_no_option_against_its_confidence(make_example: MakeExample) -> None:
    asking = Asking(strategy="self_consistency", samples=4, decoding=Decoding(temperature=0.7))
    example = make_example("a", "Is it so?", "no", options=("yes", "no"))
    (said,) = answer(Scripted(["no", "yes", "Answer: no", "well"]), [example], asking)
    assert said.text == "no"
    assert said.confidence == 0.5
    assert said.options["yes"] == 0.25


def test_open_questions_are_written_whatever_the_closed_ones_are(make_example: MakeExample) -> None:
    examples = [make_example("a", "What is it?", "a nodule"), make_example("b", "?", "yes", options=("yes", "no"))]
    said = answer(Scripted(["a mass"]), examples, Asking())
    assert [one.text for one in said] == ["a mass", "no"]


def test_a_vote_needs_samples_that_differ() -> None:
    with pytest.raises(ConfigError, match="expected 2 samples or more and a temperature above 0"):
        Asking(strategy="self_consistency", samples=5)
    with pytest.raises(ConfigError, match="strategy is 'guess'"):
        Asking(strategy="guess")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("length", "expected"),
    [("none", [-4.0, -6.0]), ("tokens", [-4.0, -2.0]), ("characters", [-4.0 / 3, -0.75]), ("bytes", [-1.0, -0.75])],
)
def test_lengths_divide_sums(length: Any, expected: list[float]) -> None:
    likelihoods = Likelihoods((-4.0, -6.0), (1, 3))
    assert Rule(length=length).values(likelihoods, ("né!", "abcdefgh")) == pytest.approx(expected)


def test_calibration_takes_away_what_would_be_said_anyway(
    make_model: Callable[..., Any], make_processor: Callable[..., Any], make_example: MakeExample
) -> None:
    model = make_model(vision=False, initializer_range=0.3)
    session = Session(model, make_processor(model), device="cpu")
    # A question that has no content is answered by chance once its own prior is taken away.
    example = make_example("a", "N/A", "yes", options=("yes", "no", "left"))
    (plain,) = answer(session, [example], Asking())
    (calibrated,) = answer(session, [example], Asking(rule=Rule(calibrated=True)))
    assert max(plain.options.values()) > 0.4
    assert list(calibrated.options.values()) == pytest.approx([1 / 3] * 3, abs=1e-5)
    with pytest.raises(ConfigError, match="needs the likelihoods after a question without content"):
        session.choose([example], rule=Rule(calibrated=True))
