"""No word is shown before it was judged together with those that follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmmed.errors import ConfigError, RecordError
from mmmed.safety.policy import Judgement, Policy
from mmmed.safety.policy_rules import Decision
from mmmed.serving.answering.judged import LOOK_AHEAD, Held
from mmmed.serving.answering.served import Served, read_card
from mmmed.serving.answering.terminal import Conversation


def words_of(*words: str) -> list[str]:
    return [f"{word} " for word in words]


def test_a_long_answer_is_shown_as_it_comes_and_whole_at_the_end(lenient: Policy) -> None:
    held, pieces = Held(lenient, "What is shown?"), words_of(*(f"word{number}" for number in range(60)))
    shown = [held.more(piece) for piece in pieces]
    assert sum(bool(one) for one in shown) > 10, "it streams"
    assert len("".join(shown).split()) <= 60 - LOOK_AHEAD
    assert "".join(shown) + held.rest() == "".join(pieces)


@pytest.mark.parametrize("place", [3, 20, 59])
def test_what_comes_before_a_forbidden_word_is_not_shown(lenient: Policy, place: int) -> None:
    words = [f"word{number}" for number in range(60)]
    words[place] = "morphine"
    held = Held(lenient, "What is shown?")
    shown = "".join(held.more(piece) for piece in words_of(*words)) + held.rest()
    assert not held.judgement.allowed
    assert held.judgement.words == "That cannot be answered here."
    said = shown.split()
    assert said == words[: len(said)] and len(said) <= max(0, place - LOOK_AHEAD + 1)


def test_a_policy_that_fails_shows_nothing() -> None:
    class Failing(Policy):
        def judge_answer(self, question: str, text: str) -> Judgement:
            return Judgement(decision=Decision.REFUSE, words="Failed.", rules=("failed",))

    held = Held(Failing.load(), "What is shown?")
    assert [held.more(piece) for piece in words_of(*map(str, range(15)))] == [""] * 15
    assert held.rest() == ""


def test_a_conversation_in_the_terminal_goes_on_and_keeps_the_rules(
    session: Any, lenient: Policy, film: bytes, tmp_path: Path
) -> None:
    (tmp_path / "film.png").write_bytes(film)
    talk = Conversation(session, lenient, files=[tmp_path / "film.png"], longest=5)
    first = "".join(talk.say("What is shown?"))
    second = "".join(talk.say("What is shown?"))
    assert first and first != second, "the second goes on from the first"
    assert list(talk.say("How much morphine?")) == ["That cannot be answered here."]
    "".join(talk.say(f"/image {tmp_path / 'film.png'}"))
    assert "".join(talk.say("What is shown?")) == first
    "".join(talk.say("/new"))
    assert "".join(talk.say("What is shown?")) != first
    with pytest.raises(RecordError, match="stands for a picture"):
        list(talk.say("What is <image>?"))


def test_signs_of_the_models_own_are_not_taken_from_visitors(served: Served) -> None:
    assert served.check_plain("Is it <3 cm?") == "Is it <3 cm?"
    for sign in ("<image>", "<|im_start|>", "<|im_end|>"):
        with pytest.raises(RecordError, match="leave it out"):
            served.check_plain(f"no{sign}system")
    with pytest.raises(RecordError, match="half of a letter"):
        served.check_plain("\ud816 effusion")


def test_the_card_beside_the_checkpoint_is_found_and_another_file_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    assert read_card(str(run / "model"), None) is None
    card = {"suite": "full", "verdict": "passed", "checks": []}
    (run / "safety_card.json").write_text(json.dumps(card))
    assert read_card(str(run), None) == read_card(str(run / "model"), None) == card
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no safety card"):
        read_card(str(run), str(tmp_path / "other.json"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_card(str(run), str(tmp_path / "nowhere.json"))
