"""A user's own texts, to go on learning a language from: JSON lines, or plain text files."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmmed.data.entries import Entry, read_json_lines
from mmmed.data.official import MOSTLY_TRAINING
from mmmed.data.passages import passages
from mmmed.data.splits import Fractions, assign
from mmmed.data.tabular import quarantine
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined, Turn

SUFFIXES = (".jsonl", ".jsonl.gz", ".txt")


class TextCorpus:
    """Reads a file of JSON lines (also .gz), a text file, or a folder with any of these, as documents.

    A line of a .jsonl file is a document, and so is a whole .txt file. Each becomes one example with a single
    `document` turn, or several where it is long. Nothing is known of who is in the texts: notes of one person belong
    together only where a field says so.

    Args:
        path: The file or folder; a folder is read with all that is below it, in the order of the names.
        field: Where a line of JSON keeps the text.
        patient: Where a line of JSON says whose text it is; None takes each document for itself.
        longest: Most characters of an example; longer documents are cut at the ends of paragraphs or sentences.
        seed: Changes which documents validate.
        fractions: Share of the documents (or patients) in each split.
    """

    name = "text_corpus"

    def __init__(
        self,
        path: str,
        *,
        field: str = "text",
        patient: str | None = None,
        longest: int = 4000,
        seed: int = 0,
        fractions: Fractions = MOSTLY_TRAINING,
    ) -> None:
        if longest < 1:
            raise ConfigError(f"text_corpus: longest is {longest}; expected a number of characters, such as 4000")
        self.path = Path(path)
        self.field = field
        self.patient = patient
        self.longest = longest
        self.seed = seed
        self.fractions = fractions

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the passages, document by document.

        Raises:
            DataError: There is no such file, or its lines lack the field.
        """
        for file in self._files():
            entries = self._text_file(file) if file.suffix == ".txt" else self._json_lines(file)
            place = file.relative_to(self.path).as_posix() if self.path.is_dir() else file.name
            yield from quarantine(self.name, entries, partial(self._examples, file=place))

    def _files(self) -> list[Path]:
        if self.path.is_file():
            files = [self.path]
        else:
            files = sorted(path for path in self.path.rglob("*") if path.is_file() and path.name.endswith(SUFFIXES))
        if not files or not files[0].name.endswith(SUFFIXES):
            raise DataError(f"text_corpus: no {', '.join(SUFFIXES)} at {str(self.path)!r}; give a file or a folder")
        return files

    def _json_lines(self, file: Path) -> Iterator[Entry]:
        return read_json_lines(file, columns=(self.field, *filter(None, [self.patient])))

    def _text_file(self, file: Path) -> Iterator[Entry]:
        try:
            yield Entry(file.name, {self.field: file.read_text(encoding="utf-8-sig")})
        except (OSError, UnicodeDecodeError) as error:
            yield Entry(file.name, fault=f"cannot be read as UTF-8 ({error})")

    def _examples(self, entry: Entry, *, file: str) -> Iterator[Example]:
        number = entry.place.partition(":")[2]
        identifier = f"{file}:{number}" if number else file
        text = entry.text(self.field)
        named = self.patient is not None and file.endswith(SUFFIXES[:2])
        # What lines call themselves is not always theirs alone; those of one name stay together.
        patient = entry.text(str(self.patient)) if named else f"{file}:{entry.maybe('id') or number}"
        split = assign(patient, seed=self.seed, fractions=self.fractions)
        for number_of_passage, passage in enumerate(passages(text, longest=self.longest)):
            yield Example(
                id=f"{identifier}#{number_of_passage}",
                patient=patient,
                turns=(Turn("document", passage),),
                topic="document",
                split=split,
                source=self.name,
            )
