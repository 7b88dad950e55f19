"""Tokens are counted as training has them, and of many conversations only once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmmed.data import token_counts as counting
from mmmed.data.collection import Chained, Collection, Listed, digest_of, picture_sets
from mmmed.data.prepare import Recipe, prepare_source
from mmmed.data.reading import Reading, read_split
from mmmed.data.shards import Shards
from mmmed.data.source import Snapshot
from mmmed.data.token_counts import token_counts
from mmmed.data.trees import token_order
from mmmed.errors import OutputError
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, Turn
from mmmed.training.objectives import VocabularyLoss
from mmmed.training.provenance import data_hash

Make = Callable[..., Example]


class Shelf:
    """Records at hand, under the name of a source that has a card."""

    name = "phantom"

    def __init__(self, records: Sequence[Example]) -> None:
        self._records = records

    def prepare(self) -> None:
        pass

    def records(self) -> Any:
        yield from self._records


@pytest.fixture
def processor(make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor]) -> Processor:
    return make_processor(make_model())


@pytest.fixture
def shelf(make_example: Make) -> Shelf:
    """Questions about one, two and no films, some of the same, in both splits."""
    films: list[tuple[int, ...]] = [(1,), (2,), (1,), (), (1, 2), (3,), (), (2,)]
    texts = ("Is there a pleural effusion?", "What is shown?", "Where?")
    records = [
        make_example(f"{number}", texts[number % 3], "left lung " * (number % 4 + 1), *shades, patient="one")
        for number, shades in enumerate(films)
    ]
    for number, shade in enumerate((8, 9)):
        other = {"split": "validation", "patient": "two"}
        records.append(make_example(f"other {number}", texts[number], "right", shade, **other))
    return Shelf(records)


def reading() -> Reading:
    return Reading(topics=None, most_turns=1, seed=0, join="closed")


def test_tokens_and_images_are_those_of_training(processor: Processor, examples: list[Example]) -> None:
    document = Example(id="text", patient="p", turns=(Turn("document", "Normal heart size."),), source="phantom")
    several = [*examples, document, *examples[:2]]
    counts = token_counts(several, processor)
    assert counts.tokens.tolist() == [len(processor.training(one).ids) for one in several]
    assert counts.images.tolist() == [len(one.images) for one in several]


def test_many_are_counted_once_for_all_runs_unless_what_decides_changes(
    processor: Processor, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path))
    monkeypatch.setattr(counting, "WORTH_KEEPING", 3)
    asked: list[int] = []
    lengths = Processor.lengths
    monkeypatch.setattr(Processor, "lengths", lambda self, some: [asked.append(len(some)), lengths(self, some)][1])
    first = token_counts(Listed(examples), processor)
    again = token_counts(Listed(examples), processor)
    assert asked == [len(examples)]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert not list(tmp_path.rglob("*.part"))
    token_counts(Listed(examples[1:]), processor)
    processor.system = "You look at films."
    changed = token_counts(Listed(examples), processor)
    assert len(asked) == 3
    assert (changed.tokens > first.tokens).all()
    (tmp_path / "token_counts").rename(tmp_path / "old")
    (tmp_path / "token_counts").write_text("")
    with pytest.raises(OutputError, match="cannot keep token counts in"):
        token_counts(Listed(examples), processor)


def test_prepared_data_say_which_conversations_share_pictures_and_what_they_are_without_being_read(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processor: Processor
) -> None:
    folder = str(prepare_source(shelf, tmp_path / "prepared", recipe=Recipe(privacy=None)).folder)
    read, opened = (
        read_split([source], "train", reading()).conversations for source in (Snapshot(shelf), Shards(folder))
    )
    assert grouped(opened.picture_sets) == grouped(read.picture_sets) == grouped(picture_sets(read))
    assert read.pictures == 3
    assert abs(opened.pictures - read.pictures) <= 1, "as many to a set as in all of the data set"
    orders = [
        token_order(one, processor, tokens=300, together=True, seed=1, rank=0, world=1, weights=None)
        for one in (read, opened)
    ]
    assert list(orders[0]) == list(orders[1])
    assert data_hash(read) == digest_of(list(read)) == data_hash(list(read))
    with monkeypatch.context() as patch:
        patch.setattr("mmmed.data.record_table.RecordTable._example", None)
        assert opened.digest() == read_split([Shards(folder)], "train", reading()).conversations.digest()
    assert opened.digest() != read_split([Shards(folder)], "validation", reading()).conversations.digest()
    fewer = Shelf(list(shelf.records())[1:])
    other = str(prepare_source(fewer, tmp_path / "other", recipe=Recipe(privacy=None)).folder)
    assert opened.digest() != read_split([Shards(other)], "train", reading()).conversations.digest()


def grouped(sets: Any) -> list[list[int]]:
    return sorted([place for place, one in enumerate(sets) if one == number] for number in set(sets.tolist()))


def test_collections_in_memory_share_pictures_of_the_same_name(examples: list[Example]) -> None:
    both = Chained([Listed(examples), Listed(examples)])
    assert both.picture_sets.tolist() == picture_sets([*examples, *examples]).tolist()
    assert both.digest() == digest_of([*examples, *examples])


def test_the_vocabulary_of_many_answers_is_that_of_as_many_at_even_distances(
    processor: Processor, make_example: Make
) -> None:
    words = ("left", "right", "both", "none")
    many = Listed([make_example(f"{number}", "Where?", words[number // 10], 1) for number in range(40)])
    assert isinstance(many, Collection)
    whole, some, few = VocabularyLoss(), VocabularyLoss(most=8), VocabularyLoss(most=2)
    for objective in (whole, some, few):
        objective.prepare(processor, many)
    assert some._words_W.tolist() == whole._words_W.tolist()
    assert len(few._words_W) < len(whole._words_W)
