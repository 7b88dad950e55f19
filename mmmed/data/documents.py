"""Any source read as plain documents, to go on learning a language from what is otherwise asked about."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from mmmed.data.passages import passages
from mmmed.data.source import Source
from mmmed.errors import ConfigError, RecordError
from mmmed.records import Example, Quarantined, Speaker, Turn

Part = Literal["questions", "answers", "both"]

_SPEAKERS: dict[Part, tuple[Speaker, ...]] = {
    "questions": ("user",),
    "answers": ("assistant",),
    "both": ("user", "assistant"),
}


class Documents:
    """Makes a document of each example of another source, in the split that the example has there.

    What a benchmark tests on thus stays out of the training text, as its own split says.

    Args:
        source: What is read.
        part: `questions` (abstracts and dialogues stand in them), `answers`, or `both`, with a line between.
        longest: Most characters of a document; longer ones are cut at the ends of paragraphs or sentences.

    Raises:
        ConfigError: There is no such part, or `longest` is no number of characters.
    """

    def __init__(self, source: Source, *, part: Part = "both", longest: int = 4000) -> None:
        if part not in _SPEAKERS:
            raise ConfigError(f"documents: part is {part!r}; expected {', '.join(_SPEAKERS)}")
        if longest < 1:
            raise ConfigError(f"documents: longest is {longest}; expected a number of characters, such as 4000")
        self.source = source
        self.name = source.name
        self.part = part
        self.longest = longest

    def prepare(self) -> None:
        """Make what the other source needs."""
        self.source.prepare()

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the documents in the order of the source, and what it sets aside.

        Raises:
            RecordError: An example has images, which are no text.
        """
        for record in self.source.records():
            if isinstance(record, Quarantined):
                yield record
                continue
            if record.images:
                raise RecordError(f"{record.source}:{record.id} has images; documents are made of sources without")
            said = [turn.text for turn in record.turns if turn.speaker in _SPEAKERS[self.part]]
            for number, passage in enumerate(passages("\n".join(said), longest=self.longest)):
                turns = (Turn("document", passage),)
                yield replace(record, id=f"{record.id}#{number}", turns=turns, options=(), topic="document")
