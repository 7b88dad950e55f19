"""Whether sources pass the privacy gate, and how they are made safe; light enough to be imported by every run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmmed.data.card import read_card
from mmmed.data.deidentify.audit import Audit
from mmmed.data.shards import Shards
from mmmed.data.source import Snapshot, Source

logger = logging.getLogger(__name__)

Mode = Literal["rules", "model"]


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """How sources are made safe.

    Args:
        text: Recognisers of identifiers in texts: `rules`, or `model` for rules and a small language model.
        images: Whether text that is burned into pictures is masked. Reading a picture takes about a second, once.
        sources: Which sources pass the gate: those whose card does not say that identifiers were removed, or all.
        key: File with the secret that surrogates are made with; None takes the one of this user.
    """

    text: Mode = "rules"
    images: Literal["mask", "keep"] = "mask"
    sources: Literal["not_deidentified", "all"] = "not_deidentified"
    key: str | None = None


DEFAULT_PRIVACY = Privacy()
"""Rules for texts and masks for pictures, before every source whose card does not say that identifiers were removed."""


def guarded(sources: Sequence[Source], privacy: Privacy | None, audit: Audit) -> list[Source]:
    """Put the gate before every source that needs it; without `privacy` before none, which is logged.

    What went through a gate as strict when it was prepared passes as it is.

    Raises:
        DataError: A source has no card.
    """
    exposed = [one.name for one in sources if not (read_card(one.name).deidentified or _has_passed(one, privacy))]
    if privacy is None and exposed:
        logger.warning("no privacy gate: %s may hold identifiers of patients", ", ".join(exposed))
    if privacy is None or (privacy.sources == "not_deidentified" and not exposed):
        return list(sources)
    # Presidio takes seconds to import, which runs on de-identified data need not wait for.
    from mmmed.data.deidentify.gate import Gate

    return [
        Gate(source, privacy, audit)
        if (privacy.sources == "all" or source.name in exposed) and not _has_passed(source, privacy)
        else source
        for source in sources
    ]


def guarded_once(source: Source, privacy: Privacy | None, audit: Audit) -> Source:
    """Like `guarded`, for whoever reads a source several times: what passed the gate is kept.

    Raises:
        DataError: The source has no card.
        PrivacyError: A recogniser failed.
    """
    (gated,) = guarded([source], privacy, audit)
    if gated is source:
        return source
    gated.prepare()
    return Snapshot(gated)


def coded(sources: Sequence[Source]) -> list[Source]:
    """Give codes to the records of sources that may hold identifiers; for reports on which records are alike.

    Raises:
        DataError: A source has no card.
    """
    exposed = [source.name for source in sources if not read_card(source.name).deidentified]
    if not exposed:
        return list(sources)
    from mmmed.data.deidentify import secret
    from mmmed.data.deidentify.codes import Coded

    return [Coded(source, secret.key()) if source.name in exposed else source for source in sources]


def _has_passed(source: Source, privacy: Privacy | None) -> bool:
    gate = source.index.gate if isinstance(source, Shards) else None
    return gate is not None and (
        privacy is None
        or (
            (gate["text"] == "model" or privacy.text == "rules")
            and (gate["images"] == "mask" or privacy.images == "keep")
        )
    )
