"""One split of several sources as conversations: read and decoded where they are small, opened where prepared."""

from collections import Counter
from collections.abc import Collection as Group
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from mmmed.data.collection import Chained, Collection, Listed
from mmmed.data.conversation import Join, merge
from mmmed.data.shards import ShardConversations, Shards
from mmmed.data.source import Source, decodable, nothing_usable, read
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How questions become conversations.

    Args:
        topics: Keep only examples of these; None keeps all.
        most_turns: Questions about the same images that are merged into one conversation.
        seed: Of the order of merging.
        join: Which of them, as in `merge`.
    """

    topics: Group[str] | None
    most_turns: int
    seed: int
    join: Join


class SplitRead(NamedTuple):
    """One split.

    Args:
        conversations: In the order of the sources.
        counts: Questions by source, before they were merged.
        quarantined: What was set aside.
    """

    conversations: Collection
    counts: Counter[str]
    quarantined: list[Quarantined]


def read_split(sources: Sequence[Source], split: Split, how: Reading) -> SplitRead:
    """Read one split of several sources.

    Raises:
        DataError: A source has no record of the split, none is about the topics, or all were set aside.
    """
    parts: list[Collection] = []
    counts: Counter[str] = Counter()
    quarantined: list[Quarantined] = []
    undecodable: list[Quarantined] = []
    about_topics = 0
    for together in _runs(sources):
        if isinstance(together, Shards):
            part = _open(together, split, how)
            about_topics += part.questions
            counts.update({together.name: part.questions} if part.questions else {})
            quarantined.extend(together.quarantined())
            parts.append(part)
        else:
            records = read(together, split)
            kept = [one for one in records.examples if how.topics is None or one.topic in how.topics]
            about_topics += len(kept)
            good, bad = decodable(kept)
            counts.update(example.source for example in good)
            quarantined.extend((*records.quarantined, *bad))
            undecodable.extend(bad)
            parts.append(Listed(merge(good, most_turns=how.most_turns, seed=how.seed, join=how.join)))
    if not about_topics:
        raise DataError(f"no {split} example has a topic among {how.topics}; name topics the sources ask about")
    if not counts:
        raise DataError(f"every {split} example was set aside, the first for this: {undecodable[0].reason}")
    return SplitRead(conversations=Chained(parts), counts=counts, quarantined=quarantined)


def unproven(sources: Sequence[Source]) -> Iterator[Example]:
    """The examples whose splits are still to be checked: a prepared source is proven unless others share its name."""
    names = Counter(source.name for source in sources)
    for source in sources:
        if not isinstance(source, Shards) or names[source.name] > 1:
            yield from (one for one in source.records() if isinstance(one, Example))


def _runs(sources: Sequence[Source]) -> Iterator[Shards | list[Source]]:
    """Prepared sources one by one, others as many as stand together."""
    for is_prepared, together in groupby(sources, key=lambda source: isinstance(source, Shards)):
        if is_prepared:
            yield from (source for source in together if isinstance(source, Shards))
        else:
            yield list(together)


def _open(source: Shards, split: Split, how: Reading) -> ShardConversations:
    if not source.index.examples[split]:
        raise nothing_usable(source, split)
    return ShardConversations(
        source.table, split, topics=how.topics, most_turns=how.most_turns, seed=how.seed, join=how.join
    )
