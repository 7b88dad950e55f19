import pytest

from mmmed.data.leakage.texts import BenchmarkIndex, TextIndex, words
from mmmed.records import Example, Split, Turn

LONG = "The heart is enlarged and there is a small effusion on the left side with some atelectasis behind it"


class Named:
    name = "film"


def asked(question: str, answer: str, split: Split = "train", *, record: str = "", film: bool = False) -> Example:
    turns = (Turn("user", f"<image>\n{question}" if film else question), Turn("assistant", answer))
    images = (Named(),) if film else ()
    return Example(id=record or split, patient="p", turns=turns, images=images, split=split, source="s")  # type: ignore[arg-type]


def test_words_are_compared_without_case_width_and_punctuation() -> None:
    assert words("<image>\nIs THIS, a \uff54est?") == ["is", "this", "a", "test"]


@pytest.mark.parametrize(
    ("first", "second", "number"),
    [
        (asked("Is it cancer?", "yes"), asked("is it CANCER", "no", "test"), 1),
        (asked("Is it cancer?", "yes"), asked("Is it cancer?", "yes"), 0),
        (asked("Is it cancer?", "yes", film=True), asked("Is it cancer?", "yes", "test", film=True), 0),
        (asked("Describe.", LONG, film=True), asked("What is seen?", LONG.upper(), "test", film=True), 1),
        (asked("Describe.", "No effusion.", film=True), asked("Describe.", "No effusion.", "test", film=True), 0),
    ],
)
def test_a_text_in_two_splits_is_found(first: Example, second: Example, number: int) -> None:
    index = TextIndex()
    index.add(first)
    index.add(second)
    assert [one.splits for one in index.findings()] == [("train", "test")] * number


def test_a_stretch_of_a_benchmark_in_training_is_found_with_its_share() -> None:
    item = asked(LONG, "yes", "test", record="item")
    index = BenchmarkIndex([item, asked("Short question?", "no", "test", record="short")])
    assert len(index) == 1
    index.add(asked("Describe.", f"Seen today: {' '.join(LONG.split()[:15])} and nothing else", record="leak"))
    index.add(asked("Describe.", "The heart is enlarged and there is a small effusion", record="clean"))
    (finding,) = index.findings()
    assert (finding.kind, finding.first, finding.second, finding.splits) == (
        "benchmark",
        "leak",
        "item",
        ("train", "benchmark"),
    )
    assert finding.score == pytest.approx(3 / (len(LONG.split()) - 12))


def test_no_stretch_runs_from_the_question_into_the_answer() -> None:
    half = len(LONG.split()) // 2
    question, answer = " ".join(LONG.split()[:half]), " ".join(LONG.split()[half:])
    assert len(BenchmarkIndex([asked(question, answer)])) == 0
