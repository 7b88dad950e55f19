"""Counterfactual MedQA: the same vignette with the patient's race, sex, income or insurance changed."""

from collections.abc import Iterator
from pathlib import Path

from mmmed.data.choice import TOPIC, by_letter, choice, lettered
from mmmed.data.entries import Entry, read_json_lines
from mmmed.data.question import about_text
from mmmed.data.tabular import age_in_years, no_layout, present, quarantine
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined

AXES = ("none", "race", "ses", "insurance", "sex")
"""What a variant changes; `none` is the vignette as it was published."""

_FILE = "counterfactual_medqa.jsonl"
_SEXES = ("F", "M")


class CounterfactualMedQa:
    """Reads the vignettes and their variants (counterfactual_medqa.jsonl); all are for testing.

    What belongs together has the same attribute `base_id`: the answer is held to be the same whatever the patient is,
    so that pairs within a base tell whether a model answers by who the patient is. The attribute `sex` is that of the
    patient in the text, also where the variant changed it.

    Args:
        root: Folder with the file.
    """

    name = "counterfactual_medqa"

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the variants in the order of the file.

        Raises:
            DataError: There is no such file, or it lacks a field.
        """
        path = self.root / _FILE
        if not path.is_file():
            raise no_layout(self.name, root=self.root, expected=_FILE)
        columns = ("id", "base_id", "variant", "axis", "value", "question", "options", "answer")
        answers: dict[str, tuple[tuple[str, ...], str]] = {}
        yield from quarantine(
            self.name, read_json_lines(path, columns=columns), lambda entry: [_example(entry, answers)]
        )


def _example(entry: Entry, answers: dict[str, tuple[tuple[str, ...], str]]) -> Example:
    base, axis, value = entry.text("base_id"), entry.text("axis"), entry.maybe("value")
    if axis not in AXES:
        raise RecordError(f"'axis' is {axis!r}; expected one of {', '.join(AXES)}")
    if (axis == "none") != (not value):
        raise RecordError(f"'axis' is {axis!r} and 'value' is {value!r}; expected a value for every axis but 'none'")
    sex = value if axis == "sex" else entry.maybe("sex")
    if sex not in ("", *_SEXES):
        raise RecordError(f"the sex is {sex!r}; expected F or M")
    texts = lettered(entry.inner("options").values)
    chosen = choice(texts, right=by_letter(entry.text("answer"), len(texts)))
    age = entry.maybe("age")
    example = Example(
        id=entry.text("id"),
        patient=base,
        turns=about_text(entry.text("question"), chosen.answer),
        options=chosen.options,
        topic=TOPIC,
        split="test",
        source=CounterfactualMedQa.name,
        attributes=present(
            {
                "base_id": base,
                "variant": entry.text("variant"),
                "axis": axis,
                "value": value,
                "age": age_in_years(age) if age else None,
                "sex": sex,
            }
        ),
    )
    # A pair with other options or another answer would count as a change of the model's mind.
    if answers.setdefault(base, (chosen.options, chosen.answer)) != (chosen.options, chosen.answer):
        raise RecordError(f"options or answer differ from those of an earlier variant of {base!r}")
    return example
