"""LLaVA-Med's figures of PubMed Central with captions and with conversations (Li et al., NeurIPS 2023)."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from mmmed.data.entries import Entry, as_text, read_json_lines, read_json_records, shortened
from mmmed.data.official import MOSTLY_TRAINING
from mmmed.data.splits import Fractions, assign
from mmmed.data.tabular import index_images, indexed_image, present, quarantine
from mmmed.errors import DataError, RecordError
from mmmed.records import IMAGE_PLACEHOLDER, Example, Quarantined, Speaker, Turn

CONVERSATION_KEYS = ("conversations", "conversatons")
"""The second is how the alignment file spells it."""

_SPEAKERS: dict[str, Speaker] = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


class LlavaMed:
    """Reads llava_med_alignment_500k.json, llava_med_instruct_*.json, or any file of that form (.json, .jsonl).

    The place of the image in the words is kept, before or after the question; where the words have none, the image
    comes first. Splits go by article.

    Args:
        path: The file.
        images: Folder of the downloaded figures; None is `images` beside the file.
        seed: Changes which articles validate.
        fractions: Share of the articles in each split.
    """

    name = "llava_med"

    def __init__(
        self, path: str, *, images: str | None = None, seed: int = 0, fractions: Fractions = MOSTLY_TRAINING
    ) -> None:
        self.path = Path(path)
        self.images = Path(images) if images is not None else self.path.parent / "images"
        self.seed = seed
        self.fractions = fractions

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the conversations in the order of the file; those whose figure could not be had are set aside.

        Raises:
            DataError: File or images are missing, or the file is not of that form.
        """
        if not self.path.is_file() or not self.images.is_dir():
            raise DataError(
                f"llava_med: no file {str(self.path)!r} with images in {str(self.images)!r}; "
                "how to obtain both stands in the card data/llava_med.md"
            )
        read = read_json_lines if self.path.suffix == ".jsonl" else read_json_records
        entries = read(self.path, columns=("id", "image"))
        images = index_images([self.images])
        yield from quarantine(self.name, entries, partial(self._examples, images=images))

    def _examples(self, entry: Entry, *, images: Mapping[str, Path]) -> Iterator[Example]:
        identifier = entry.text("id")
        image = indexed_image(images, Path(entry.text("image")).name)
        turns = conversation(entry)
        article = identifier.partition("_")[0]
        yield Example(
            id=identifier,
            patient=article,
            turns=turns,
            images=(image,),
            topic="caption" if len(turns) == 2 else "conversation",
            split=assign(article, seed=self.seed, fractions=self.fractions),
            source=self.name,
            attributes=present({"domain": _domain(entry)}),
        )


def conversation(entry: Entry) -> tuple[Turn, ...]:
    """The turns of a record in LLaVA's form, with one `<image>` among the user's words.

    Raises:
        RecordError: Turns are missing, empty, not by user and assistant in turn, or name the image more than once.
    """
    given = next((entry.values[key] for key in CONVERSATION_KEYS if key in entry.values), None)
    if not isinstance(given, list) or not given or len(given) % 2:
        raise RecordError(f"'conversations' is {_counted(given)}; expected questions and answers in turn")
    turns = [_turn(said) for said in given]
    if [turn.speaker for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise RecordError("the conversation is not by human and gpt in turn")
    placeholders = [turn.text.count(IMAGE_PLACEHOLDER) for turn in turns]
    if sum(placeholders) > 1 or any(placeholders[1::2]):
        raise RecordError(
            f"{IMAGE_PLACEHOLDER!r} stands {sum(placeholders)} times or in an answer; expected one question"
        )
    if not sum(placeholders):
        turns[0] = Turn("user", f"{IMAGE_PLACEHOLDER}\n{turns[0].text}")
    if empty := [turn for turn in turns if not turn.text.replace(IMAGE_PLACEHOLDER, "").strip()]:
        raise RecordError(f"the {empty[0].speaker} says nothing")
    return tuple(turns)


def _turn(said: object) -> Turn:
    inside = said if isinstance(said, dict) else {}
    speaker = inside.get("from")
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        raise RecordError(f"'from' is {shortened(speaker)}; expected human or gpt")
    return Turn(_SPEAKERS[speaker], as_text(inside.get("value", ""), name="value"))


def _domain(entry: Entry) -> str:
    flags = entry.values.get("domain")
    return " ".join(sorted(name for name, holds in flags.items() if holds is True)) if isinstance(flags, dict) else ""


def _counted(given: object) -> str:
    return f"{len(given)} turns" if isinstance(given, list) else shortened(given)
