"""The rules of sign-off, tried in every order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.errors import SignoffError
from mmmed.serving.desk.states import FINAL, Act, Standing, State, Step, advance, fold

TEXT = "No pleural effusion."
BETTER = "Small left pleural effusion."


def after(*steps: Step, two_people: bool = False) -> Standing:
    standing = advance(None, Step(act=Act.DRAFTED, actor="model", text=TEXT))
    for step in steps:
        standing = advance(standing, step, two_people=two_people)
    return standing


def did(act: Act, actor: str = "anna", **told: str) -> Step:
    return Step(act=act, actor=actor, **told)


TAKEN = did(Act.TAKEN)


def test_a_draft_is_taken_amended_and_signed() -> None:
    standing = after(TAKEN, did(Act.AMENDED, text=BETTER), did(Act.SIGNED))
    assert standing == Standing(
        state=State.SIGNED, drafted=TEXT, text=BETTER, signed_by=("anna",), steps=4, holder="", approved_by=""
    )


def test_a_draft_is_returned_as_it_was_taken() -> None:
    assert after(TAKEN, did(Act.RETURNED)).state is State.DRAFT
    assert after(TAKEN, did(Act.AMENDED, text=BETTER), did(Act.RETURNED)).state is State.AMENDED


def test_who_takes_over_holds_it_alone() -> None:
    taken_over = (TAKEN, did(Act.TAKEN, "bert"))
    assert after(*taken_over).holder == "bert"
    with pytest.raises(SignoffError, match="in review by bert; anna takes it into review first"):
        after(*taken_over, did(Act.SIGNED))


@pytest.mark.parametrize("act", [Act.AMENDED, Act.SIGNED, Act.REJECTED, Act.RETURNED, Act.APPROVED])
def test_nothing_is_done_to_a_draft_that_nobody_reviews(act: Act) -> None:
    with pytest.raises(SignoffError, match="take it into review first"):
        after(did(act, text=BETTER, reason="wrong side"))


@pytest.mark.parametrize("last", [did(Act.SIGNED), did(Act.REJECTED, reason="wrong patient")])
@pytest.mark.parametrize("act", list(Act))
def test_nothing_follows_the_end(last: Step, act: Act) -> None:
    with pytest.raises(SignoffError, match=r"is (signed|rejected) already"):
        after(TAKEN, last, did(act, text=BETTER, reason="late"))


def test_a_rejection_says_why_and_a_report_is_not_empty() -> None:
    with pytest.raises(SignoffError, match="needs its reason"):
        after(TAKEN, did(Act.REJECTED, reason=" "))
    with pytest.raises(SignoffError, match="is empty"):
        after(TAKEN, did(Act.AMENDED, text=" \n"))
    with pytest.raises(SignoffError, match="same as before"):
        after(TAKEN, did(Act.AMENDED, text=TEXT))


def test_two_people_sign_one_text() -> None:
    approved = (TAKEN, did(Act.APPROVED))
    second = (*approved, did(Act.TAKEN, "bert"))
    assert after(*second, did(Act.SIGNED, "bert"), two_people=True).signed_by == ("anna", "bert")
    with pytest.raises(SignoffError, match="approve the text, and another person signs"):
        after(TAKEN, did(Act.SIGNED), two_people=True)
    with pytest.raises(SignoffError, match="second signature is another person's"):
        after(*approved, TAKEN, did(Act.SIGNED), two_people=True)
    with pytest.raises(SignoffError, match="anna has approved this text already"):
        after(*second, did(Act.APPROVED, "bert"), two_people=True)


def test_an_amended_text_needs_to_be_approved_again() -> None:
    steps = (TAKEN, did(Act.APPROVED), did(Act.TAKEN, "bert"), did(Act.AMENDED, "bert", text=BETTER))
    with pytest.raises(SignoffError, match="approve the text"):
        after(*steps, did(Act.SIGNED, "bert"), two_people=True)
    onwards = (*steps, did(Act.APPROVED, "bert"), TAKEN, did(Act.SIGNED))
    assert after(*onwards, two_people=True).signed_by == ("bert", "anna")


def test_one_person_does_not_approve_where_one_is_enough() -> None:
    with pytest.raises(SignoffError, match="one signature is enough"):
        after(TAKEN, did(Act.APPROVED))


STEPS = st.builds(
    Step,
    act=st.sampled_from(list(Act)),
    actor=st.sampled_from(["anna", "bert", "carl"]),
    text=st.sampled_from(["", TEXT, BETTER, "Other."]),
    reason=st.sampled_from(["", "wrong side"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=14), st.booleans())
def test_in_any_order_a_signature_is_of_who_held_it_and_ends_it(steps: list[Step], two_people: bool) -> None:
    first = Step(act=Act.DRAFTED, actor="model", text=TEXT)
    done, standing = [first], advance(None, first)
    for step in steps:
        try:
            after = advance(standing, step, two_people=two_people)
        except SignoffError as error:
            assert "\n" not in str(error)
            continue
        assert standing.state not in FINAL
        assert after.steps == standing.steps + 1
        if after.is_final:
            assert standing.holder == step.actor
        if after.state is State.SIGNED:
            assert len(set(after.signed_by)) == (2 if two_people else 1)
        done.append(step)
        standing = after
    assert fold(done) == standing
