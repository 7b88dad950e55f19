"""Exam questions with one best answer, read out of what was written."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from mmmed.data.writing_case import WritingCase
from mmmed.evaluation.writing.lexicon import says_any

FEWEST_OPTIONS = 4
_OPTION = re.compile(r"^\s*\(?([A-H])[.)]\s*(\S.*?)\s*$", re.MULTILINE)
_ANSWER = re.compile(r"^\W*(?:correct\s+)?(?:answer|key)\W*\(?([A-H])\b", re.MULTILINE | re.IGNORECASE)


class Exam(NamedTuple):
    """A question: its stem, its options by letter, and the letter of its answer."""

    stem: str
    options: dict[str, str]
    answer: str


def parse_exam(text: str) -> Exam | None:
    """Read a question; None where it has no options or not exactly one answer among them."""
    listed = [(match[1], match[2]) for match in _OPTION.finditer(text)]
    answers = {letter.upper() for letter in _ANSWER.findall(text)}
    options = dict(listed)
    if len(options) != len(listed) or len(answers) != 1 or not answers <= options.keys():
        return None
    first = _OPTION.search(text)
    assert first is not None
    return Exam(text[: first.start()].strip(), options, answers.pop())


def option_faults(text: str, case: WritingCase) -> Iterator[str]:
    """What is wrong with stem and options."""
    exam = parse_exam(text)
    if exam is None:
        yield "no options A. to D. with one line 'Answer:'"
        return
    if not exam.stem:
        yield "no stem"
    if "".join(exam.options) != "ABCDEFGH"[: len(exam.options)] or len(exam.options) < FEWEST_OPTIONS:
        yield f"options {', '.join(exam.options)}"
    if len({option.lower() for option in exam.options.values()}) < len(exam.options):
        yield "two options are the same"
    for letter, option in exam.options.items():
        if letter != exam.answer and not says_any(option, (*case.distractors, *case.key)):
            yield f"not plausible: {option}"


def key_faults(exam: Exam, case: WritingCase) -> Iterator[str]:
    """What is wrong with the answer."""
    if not says_any(exam.options[exam.answer], case.key):
        yield f"the answer is {exam.options[exam.answer]}; the key is {case.key[0]}"
    for letter, option in exam.options.items():
        if letter != exam.answer and says_any(option, case.key):
            yield f"{letter} is right as well: {option}"
