from collections import Counter

import pytest

from mmmed.data.splits import Fractions, assign, check_disjoint, stratified, uniform
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Split, Turn


class NamedImage:
    def __init__(self, name: str) -> None:
        self.name = name


def example(patient: str, split: Split, *, study: str = "", image: str = "", source: str = "s") -> Example:
    return Example(
        id=f"{patient}{split}{study}{image}",
        patient=patient,
        turns=(Turn("user", "<image>" if image else "?"),),
        images=(NamedImage(image),) if image else (),  # type: ignore[arg-type]
        split=split,
        study=study,
        source=source,
    )


def test_the_same_patient_is_always_in_the_same_split() -> None:
    # Written down, so that a change of the hash that would reshuffle everybody is noticed.
    assert [assign(patient, seed=0) for patient in ("covid_5", "nih_00000075", "HAM_0006604", "p7")] == [
        "validation",
        "train",
        "train",
        "train",
    ]


def test_splits_have_the_shares_asked_for() -> None:
    counts = Counter(assign(str(n), seed=3, fractions=Fractions(0.6, 0.3, 0.1)) for n in range(5000))
    assert [counts[split] / 5000 for split in ("train", "validation", "test")] == pytest.approx(
        [0.6, 0.3, 0.1], abs=0.02
    )


def test_another_seed_moves_patients() -> None:
    assert any(assign(str(n), seed=0) != assign(str(n), seed=1) for n in range(20))


@pytest.mark.parametrize(
    ("fractions", "allowed"),
    [
        (Fractions(1, 0, 0), {"train"}),
        (Fractions(0, 0, 1), {"test"}),
        (Fractions(0.7, 0.3, 0), {"train", "validation"}),
        (Fractions(0.9, 0, 0.1), {"train", "test"}),
    ],
)
def test_an_empty_split_stays_empty(fractions: Fractions, allowed: set[str]) -> None:
    assert {assign(str(n), seed=0, fractions=fractions) for n in range(500)} == allowed


@pytest.mark.parametrize("fractions", [Fractions(0.8, 0.1, 0.2), Fractions(1.2, -0.2, 0.0)])
def test_shares_that_are_none_are_refused(fractions: Fractions) -> None:
    with pytest.raises(ConfigError, match="must be 0 or more and sum to 1"):
        assign("p", seed=0, fractions=fractions)


def test_uniform_numbers_lie_in_their_range() -> None:
    numbers = [uniform(str(n)) for n in range(2000)]
    assert 0 <= min(numbers) < 0.01 < 0.99 < max(numbers) < 1


def test_disjoint_splits_pass() -> None:
    check_disjoint(
        [
            example("a", "train", study="1", image="x"),
            example("a", "train", study="2", image="y"),
            example("b", "test", image="z"),
            example("a", "test", source="another"),
        ]
    )


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (example("a", "train"), example("a", "test"), r"1 patient\(s\) stand in two splits: s:a; split by patient"),
        (example("a", "train", study="1"), example("b", "test", study="1"), r"1 study\(s\) .*: s:1;"),
        (example("a", "train", image="x"), example("b", "test", image="x"), r"1 image\(s\) .*: x;"),
        (example("a", "train", image="x"), example("b", "test", image="x", source="t"), r"1 image\(s\) .*: x;"),
    ],
)
def test_whatever_stands_in_two_splits_is_named(first: Example, second: Example, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_disjoint([first, second])


def test_only_the_first_few_are_named() -> None:
    examples = [example(patient, split) for patient in "abcde" for split in ("train", "test")]  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"5 patient.*: s:a, s:b, s:c and 2 more;"):
        check_disjoint(examples)


def people(count: int) -> dict[str, set[str]]:
    """Patients with a sex, and now and then a rare finding."""
    return {
        f"p{n}": {"sex=F" if uniform(f"sex{n}") < 0.3 else "sex=M"}
        | ({"finding=Hernia"} if uniform(f"hernia{n}") < 0.05 else set())
        | ({"finding=Mass"} if uniform(f"mass{n}") < 0.2 else set())
        for n in range(count)
    }


def test_every_label_and_group_has_its_share_in_every_split() -> None:
    tags, fractions = people(1000), Fractions(0.7, 0.1, 0.2)
    places = stratified(tags, seed=0, fractions=fractions)
    assert places.keys() == tags.keys()
    for tag in ("sex=F", "sex=M", "finding=Hernia", "finding=Mass"):
        holders = [patient for patient, mine in tags.items() if tag in mine]
        counts = Counter(places[patient] for patient in holders)
        for split, share in zip(("train", "validation", "test"), fractions, strict=True):
            assert abs(counts[split] - share * len(holders)) <= 1.5, (tag, split)


def test_stratified_splits_do_not_depend_on_the_order_of_the_patients() -> None:
    tags = people(200)
    assert stratified(tags, seed=1) == stratified(dict(reversed(tags.items())), seed=1)
    assert stratified(tags, seed=1) != stratified(tags, seed=2)


def test_patients_without_labels_are_placed_by_their_share() -> None:
    places = stratified({f"p{n}": set() for n in range(100)}, seed=0, fractions=Fractions(0.5, 0, 0.5))
    assert Counter(places.values()) == {"train": 50, "test": 50}


def test_shares_that_are_none_are_refused_by_stratified_splits_too() -> None:
    with pytest.raises(ConfigError, match="must be 0 or more and sum to 1"):
        stratified({"p": set()}, seed=0, fractions=Fractions(0.8, 0.1, 0.2))
