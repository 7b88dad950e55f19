"""A source of another source: what is short enough, one published split drawn anew, or a question put otherwise."""

from collections.abc import Iterator
from dataclasses import replace

from mmmed.data.official import MOSTLY_TRAINING
from mmmed.data.source import Source
from mmmed.data.splits import Fractions, assign
from mmmed.errors import ConfigError
from mmmed.records import SPLITS, Example, Quarantined, Split


class _Selection:
    """What every source of another source does alike."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name

    def prepare(self) -> None:
        """Make what the other source needs."""
        self.source.prepare()


class LengthLimit(_Selection):
    """Sets aside what is longer than a model is to read, and counts it with all else that is set aside.

    Args:
        source: What is read.
        characters: Most characters of all turns together.

    Raises:
        ConfigError: The limit is no number of characters.
    """

    def __init__(self, source: Source, *, characters: int) -> None:
        if characters < 1:
            raise ConfigError(f"length limit is {characters}; expected a number of characters, such as 8000")
        super().__init__(source)
        self.characters = characters

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the records in the order of the source."""
        for record in self.source.records():
            if isinstance(record, Example):
                length = sum(len(turn.text) for turn in record.turns)
                if length > self.characters:
                    reason = f"{length} characters, more than {self.characters}"
                    yield Quarantined(record.source, record.id, reason)
                    continue
            yield record


class Redrawn(_Selection):
    """Splits one published split anew by patient, where only that one is at hand and nothing of the set is tested on.

    Args:
        source: What is read; its other splits are left out.
        split: The split that is drawn from.
        seed: Changes who goes where.
        fractions: Share of the patients in each split.

    Raises:
        ConfigError: There is no such split.
    """

    def __init__(self, source: Source, *, split: Split, seed: int = 0, fractions: Fractions = MOSTLY_TRAINING) -> None:
        if split not in SPLITS:
            raise ConfigError(f"redrawn: split is {split!r}; expected {', '.join(SPLITS)}")
        super().__init__(source)
        self.split = split
        self.seed = seed
        self.fractions = fractions

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the records in the order of the source."""
        for record in self.source.records():
            if isinstance(record, Quarantined):
                yield record
            elif record.split == self.split:
                yield replace(record, split=assign(record.patient, seed=self.seed, fractions=self.fractions))


class Reworded(_Selection):
    """Puts the last question of each record as a task puts it, so that what is learned is what is asked.

    Args:
        source: What is read.
        prompt: The user's words, with `{question}` where the source's own stand.

    Raises:
        ConfigError: The prompt has no place for the question.
    """

    def __init__(self, source: Source, *, prompt: str) -> None:
        if "{question}" not in prompt:
            raise ConfigError(f"reworded: prompt is {prompt!r}; expected {{question}} in it")
        super().__init__(source)
        self.prompt = prompt

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the records in the order of the source."""
        for record in self.source.records():
            if isinstance(record, Quarantined):
                yield record
                continue
            turns = list(record.turns)
            place = max(index for index, turn in enumerate(turns) if turn.speaker == "user")
            turns[place] = replace(turns[place], text=self.prompt.replace("{question}", turns[place].text))
            yield replace(record, turns=tuple(turns))
