"""The command that makes a corpus searchable."""

from __future__ import annotations

from pathlib import Path

from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.privacy import DEFAULT_PRIVACY, Privacy, guarded
from mmmed.data.source import Source
from mmmed.inference.retrieval import passages_of, write_index
from mmmed.inference.vectors import text_vectors
from mmmed.records import Example


def index(
    sources: list[Source],
    output: str,
    context: str = "",
    encoder: str | None = None,
    privacy: Privacy | None = DEFAULT_PRIVACY,
) -> None:
    """Make an index of passages that tasks can retrieve from.

    Args:
        sources: What the passages are from, all splits; a record is one passage, its question with its answer.
        output: Folder of the index.
        context: A pattern whose first group, in what the user says, is the passage instead of question and answer, such
            as the abstract before a question.
        encoder: Reference of a text encoder of transformers whose vectors are kept too, for the methods dense and
            hybrid; none keeps words alone.
        privacy: How sources that may hold identifiers are made safe; null takes them as they are.
    """
    safe = guarded(sources, privacy, Audit())
    for source in safe:
        source.prepare()
    records = (record for source in safe for record in source.records())
    passages = passages_of((record for record in records if isinstance(record, Example)), context=context)
    write_index(Path(output), passages, encode=text_vectors(encoder) if encoder else None)
    print(f"{len(passages)} passages in {output}{f', with vectors of {encoder}' if encoder else ''}")
