from collections import Counter
from pathlib import Path

import pytest

from mmmed.data.sources.clinical_writing import ClinicalWriting
from mmmed.data.splits import check_disjoint
from mmmed.data.writing_case import read_cases
from mmmed.errors import ConfigError
from mmmed.records import Example

ROOT = Path(__file__).parents[3] / "data" / "clinical_writing"


def examples(**settings: object) -> list[Example]:
    return [one for one in ClinicalWriting(str(ROOT), **settings).records() if isinstance(one, Example)]  # type: ignore[arg-type]


def test_an_order_says_all_that_the_writer_may_know_and_the_form_that_is_checked() -> None:
    cases = {case.id: case for case in read_cases(ROOT)}
    found = examples()
    assert [one.id for one in found] == list(cases)
    for example in found:
        case = cases[example.id]
        assert case.given in example.question and case.order in example.question
        assert all(f"[{name}]" in example.question for name in case.open)
        assert all(name in example.question for name in case.sections)
        assert example.reference == case.reference and example.reference not in example.question
    assert {one.split for one in found} == {"test"}


def test_folds_test_every_case_once_and_each_has_all_kinds() -> None:
    folds = [examples(folds=2, fold=fold) for fold in range(2)]
    tested = [{one.id for one in found if one.split == "test"} for found in folds]
    assert not tested[0] & tested[1] and tested[0] | tested[1] == {one.id for one in examples()}
    for found in folds:
        check_disjoint(found)
        kinds = Counter(one.topic for one in found if one.split == "test")
        assert len(kinds) == 5 and min(kinds.values()) >= 3
        assert {one.split for one in found} == {"train", "validation", "test"}


def test_one_kind_alone_can_be_asked_for() -> None:
    assert {one.topic for one in examples(kinds=["handout"])} == {"handout"}


@pytest.mark.parametrize(
    ("settings", "message"), [({"folds": 1}, "folds is 1"), ({"folds": 2, "fold": 2}, "expected 0 to 1")]
)
def test_folds_that_are_none_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClinicalWriting(str(ROOT), **settings)
