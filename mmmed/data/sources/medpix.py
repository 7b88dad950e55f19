"""MedPix 2.0: CT and MR images of a teaching collection with captions and cases (Siragusa et al. 2025)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mmmed.data.question import about_image
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import OLDEST, Row, image_in, no_layout, present, quarantine
from mmmed.errors import DataError, RecordError
from mmmed.records import IMAGE_PLACEHOLDER, Example, Quarantined, Split

Question = Literal["caption", "findings", "diagnosis"]

CAPTION = "Describe this medical image."
FINDINGS = "Describe the findings of these images."
DIAGNOSIS = "What is the diagnosis?"

_SPLITS: Mapping[str, Split] = {"train": "train", "dev": "validation", "test": "test"}
_CASES, _IMAGES, _PARTS = "Case_topic.json", ("Descriptions.json", "Description.json"), "splitted_dataset/uid_list.json"
# Written where the author of a case had nothing to say (yet).
_NOTHING = frozenset({"", "in progress", "n/a", "na", "none", "see above", "pending", "."})
_SEXES = {"male": "M", "female": "F"}
_KIND = {"CT": "CT", "MR": "MRI", "MRI": "MRI", "TAC": "CT"}


class MedPix:
    """Reads the authors' repository: Case_topic.json, Descriptions.json, images/ and splitted_dataset/uid_list.json.

    Each image is asked for its caption, and each case with all its images for its findings and its diagnosis. The
    official split keeps cases whole and is used where its list is there; otherwise the splits are drawn by case.

    Args:
        root: Folder with the files (MedPix-2-0/ of the repository).
        seed: Changes which cases fall into which split, where these are drawn.
        fractions: Share of the cases in each split, where these are drawn.
        splits: `official`, where the list of cases is there, or `hash`.
        questions: What is asked.
        most_images: Most images of a case that are shown together.
    """

    name = "medpix"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        splits: Literal["official", "hash"] = "official",
        questions: Sequence[Question] = ("caption", "diagnosis"),
        most_images: int = 4,
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.splits = splits
        self.questions = tuple(questions)
        self.most_images = most_images

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the captions image by image, then the questions case by case, in the order of the files.

        Raises:
            DataError: The files are missing or are no JSON of this shape.
        """
        file = next((name for name in _IMAGES if (self.root / name).is_file()), None)
        if file is None or not (self.root / _CASES).is_file() or not (self.root / "images").is_dir():
            raise no_layout(self.name, root=self.root, expected=f"{_CASES}, {_IMAGES[0]} and images/")
        described = _flat(self.root / file)
        cases = _flat(self.root / _CASES)
        official = self._official()
        people = {row.maybe("U_id"): row for row in described}
        if "caption" in self.questions:
            yield from quarantine(self.name, described, lambda row: self._caption(row, official))
        if {"findings", "diagnosis"} & {*self.questions}:
            yield from quarantine(self.name, cases, lambda row: self._case(row, people, official))

    def _official(self) -> Mapping[str, str]:
        path = self.root / _PARTS
        if not path.is_file():
            return {}
        lists = _json(path)
        if not isinstance(lists, dict):
            raise DataError(f"{path} is no object of lists of cases; fetch it again")
        return {case: part for part in _SPLITS for case in lists.get(part, [])}

    def _split(self, case: str, official: Mapping[str, str]) -> Split:
        if self.splits == "hash" or not official:
            return assign(case, seed=self.seed, fractions=self.fractions)
        if case not in official:
            raise RecordError(f"case {case!r} stands in no list of {_PARTS}")
        return _SPLITS[official[case]]

    def _caption(self, row: Row, official: Mapping[str, str]) -> Iterator[Example]:
        case, name = row.text("U_id"), row.text("image")
        yield Example(
            id=f"{name}:caption",
            patient=case,
            turns=about_image(CAPTION, _text(row, "Description.Caption")),
            images=(image_in(self.root, f"images/{name}.png"),),
            topic="caption",
            split=self._split(case, official),
            source=self.name,
            study=case,
            attributes=_facts(row, official.get(case, "")),
        )

    def _case(self, row: Row, people: Mapping[str, Row], official: Mapping[str, str]) -> Iterator[Example]:
        case = row.text("U_id")
        names = [name for column in ("TAC", "MRI") for name in row.maybe(column).split(_BETWEEN) if name]
        if not names:
            raise RecordError("its case names no image")
        images = tuple(image_in(self.root, f"images/{name}.png") for name in names[: self.most_images])
        history = row.maybe("Case.History")
        told = f"{history}\n" if history.lower() not in _NOTHING and IMAGE_PLACEHOLDER not in history else ""
        asked = {"findings": (FINDINGS, "Case.Findings"), "diagnosis": (f"{told}{DIAGNOSIS}", "Case.Case Diagnosis")}
        for topic in self.questions:
            if topic == "caption" or row.maybe(asked[topic][1]).lower().rstrip(".") in _NOTHING:
                continue
            question, column = asked[topic]
            yield Example(
                id=f"{case}:{topic}",
                patient=case,
                turns=about_image(question, _text(row, column), images=len(images)),
                images=images,
                topic=topic,
                split=self._split(case, official),
                source=self.name,
                study=case,
                attributes=_facts(people[case], official.get(case, "")) if case in people else {},
            )


_BETWEEN = "|"


def _facts(row: Row, part: str) -> dict[str, str | float]:
    return present(
        {
            "sex": _SEXES.get(row.maybe("Description.Sex").lower(), ""),
            "age": _age(row.maybe("Description.Age")),
            "modality": _KIND.get(row.maybe("Type"), row.maybe("Type")),
            "plane": row.maybe("Description.Plane"),
            "location": row.maybe("Location"),
            "official_split": part,
        }
    )


def _age(text: str) -> float | None:
    """Years, where the free text of the field is a number of them; "6 months" and "middle-aged" are not known."""
    match = re.fullmatch(r"(\d{1,3})(?: ?(?:y|yo|yrs?|years?)\.?)?", text.lower())
    return float(match[1]) if match and int(match[1]) <= OLDEST else None


def _text(row: Row, column: str) -> str:
    text = row.line(column)
    if text.lower().rstrip(".") in _NOTHING:
        raise RecordError(f"{column!r} is {text!r}; it says nothing")
    return text


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON in UTF-8 ({error}); fetch it again") from error


def _flat(path: Path) -> list[Row]:
    """The records of a file, with what is nested in them under names such as ``Case.History``."""
    records = _json(path)
    if not isinstance(records, list):
        raise DataError(f"{path} is no array of records; fetch it again")
    return [_row(record, place=f"{path.name}[{number}]") for number, record in enumerate(records)]


def _row(record: object, *, place: str) -> Row:
    if not isinstance(record, dict):
        return Row(place, fault=f"expected an object, not {type(record).__name__}")
    cells: dict[str, str] = {}
    for name, value in record.items():
        inner = value.items() if isinstance(value, dict) else ((None, value),)
        for key, text in inner:
            cells[name if key is None else f"{name}.{key}"] = _cell(text)
    return Row(place, cells)


def _cell(value: object) -> str:
    if isinstance(value, list):
        return _BETWEEN.join(str(item) for item in value)
    return "" if value is None else str(value).strip()
