"""The arm that only reads learns what words tell, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from mmmed.errors import ConfigError
from mmmed.evaluation.predictions import read_jsonl, write_jsonl
from mmmed.evaluation.text_classifier import ReadingArm, answer_by_reading, load_reading_arm, read_text
from mmmed.models.text_classifier import TextClassifier
from mmmed.records import Example, Turn

BERT = {
    "model_type": "bert",
    "vocab_size": 420,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
YES_NO = ("yes", "no")


@pytest.fixture
def arm(tokenizer_folder: Path) -> ReadingArm:
    return ReadingArm(
        weights=None, config=BERT, tokenizer=str(tokenizer_folder), epochs=10, learning_rate=3e-3, max_length=64
    )


@pytest.fixture
def told(make_example: Callable[..., Example]) -> Callable[[int], list[Example]]:
    """Makes questions whose words tell the answer, about films that do not."""

    def make(count: int) -> list[Example]:
        made = []
        for index in range(count):
            words = "cardiomegaly" if index % 2 else "effusion"
            answer = "yes" if index % 2 else "no"
            made.append(make_example(str(index), f"Is there {words}?", answer, index, options=YES_NO))
            side = "left" if index % 2 else "right"
            made.append(make_example(f"s{index}", f"Where {words}?", side, options=("left", "right")))
        return made

    return make


def test_what_the_words_tell_is_learned(arm: ReadingArm, told: Callable[[int], list[Example]], tmp_path: Path) -> None:
    done: list[int] = []
    asked = told(4)
    answers = answer_by_reading(arm, told(24), asked, task="t", advance=done.append)
    assert [one.answer for one in answers] == [example.reference for example in asked]
    assert [one.id for one in answers] == [f"phantom:{example.id}" for example in asked]
    assert {one.arm for one in answers} == {"text_classifier"}
    assert sum(done) == len(asked)
    for example, one in zip(asked, answers, strict=True):
        assert tuple(one.options) == example.options
        assert sum(one.options.values()) == pytest.approx(1)
        assert one.confidence == max(one.options.values())
    write_jsonl(tmp_path / "a.jsonl", answers)
    assert read_jsonl(tmp_path / "a.jsonl") == answers


def test_the_same_seed_gives_the_same_answers_and_leaves_the_generator_alone(
    arm: ReadingArm, told: Callable[[int], list[Example]]
) -> None:
    arm.epochs = 1
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = answer_by_reading(arm, told(4), told(2), task="t")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert answer_by_reading(arm, told(4), told(2), task="t") == first


def test_options_of_other_questions_get_nothing(arm: ReadingArm) -> None:
    classifier = TextClassifier(
        ["a", "b", "c"], weights=None, config=arm.config, tokenizer=arm.tokenizer, max_length=64
    ).eval()
    with torch.no_grad():
        shares = classifier(["Is there?"], torch.tensor([[True, False, True]])).exp()[0]
    assert shares[1] == 0
    assert float(shares.sum()) == pytest.approx(1)


def test_the_encoder_is_that_of_transformers_and_padding_changes_nothing(arm: ReadingArm) -> None:
    classifier = TextClassifier(
        ["a", "b"], weights=None, config=arm.config, tokenizer=arm.tokenizer, max_length=64
    ).eval()
    theirs = BertModel(BertConfig(**BERT)).eval()
    theirs.load_state_dict(classifier.encoder.state_dict())
    texts, allowed = ["Is there?", "Where does the effusion lie on this film?"], torch.ones(2, 2, dtype=torch.bool)
    with torch.no_grad():
        together = classifier(texts, allowed)
        for row, text in enumerate(texts):
            ids = classifier.tokenizer(text, return_tensors="pt")["input_ids"]
            alone = classifier.head(theirs(input_ids=ids).last_hidden_state[:, 0]).log_softmax(-1)[0]
            torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=0)


def test_of_a_text_that_is_too_long_the_question_at_its_end_is_read(arm: ReadingArm) -> None:
    classifier = TextClassifier(["a"], weights=None, config=arm.config, tokenizer=arm.tokenizer, max_length=8).eval()
    allowed = torch.ones(1, 1, dtype=torch.bool)
    read: list[torch.Tensor] = []
    classifier.encoder.register_forward_pre_hook(
        lambda module, given, named: read.append(named["input_ids"]), with_kwargs=True
    )
    classifier(["no " * 50 + "effusion ?"], allowed)
    assert read[0].shape == (1, 8)
    assert classifier.tokenizer.decode(read[0][0]).endswith("effusion ?")


def test_the_context_is_read_and_the_answer_is_not(make_example: Callable[..., Example]) -> None:
    example = make_example("a", "Is there an effusion?", "yes", 1, 2, options=YES_NO)
    turns = (Turn("system", "Be brief."), *example.turns)
    example = Example(id="a", patient="p", turns=turns, images=example.images, options=YES_NO)
    assert read_text(example) == "Be brief.\nIs there an effusion?"


def test_open_questions_are_refused(
    arm: ReadingArm, told: Callable[[int], list[Example]], make_example: Callable[..., Example]
) -> None:
    with pytest.raises(ConfigError, match="task t: a text classifier needs closed questions"):
        answer_by_reading(arm, told(2), [make_example("a", "What?", "a mass")], task="t")
    with pytest.raises(ConfigError, match="task t: a text classifier needs closed questions"):
        answer_by_reading(arm, [], told(2), task="t")


def test_random_weights_need_a_configuration() -> None:
    with pytest.raises(ConfigError, match="a text classifier needs `weights`, or"):
        TextClassifier(["a"], weights=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weights: null\nepoch: 3", r"unknown key 'epoch' \(did you mean 'epochs'\?\)"),
        ("weights: null\nepochs: three", "epochs"),
        ("- a", "text classifier"),
        ("weights: [", "text classifier"),
    ],
)
def test_an_arm_that_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "arm.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_reading_arm(tmp_path / "arm.yaml")
    with pytest.raises(ConfigError, match="no text classifier at"):
        load_reading_arm(tmp_path / "nowhere.yaml")
