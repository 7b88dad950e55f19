"""A data set card as Croissant JSON-LD 1.0, so that catalogues and other tools can read it.

Source: Croissant Format Specification 1.0, MLCommons (2024), and its Responsible AI extension 1.0.
"""

import json
from pathlib import Path
from typing import Any

from mmmed.data.card import Card, cards_folder

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}
_CREATIVE_COMMONS = {
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-NC 4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC BY-NC-SA 4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "CC BY-NC-ND 4.0": "https://creativecommons.org/licenses/by-nc-nd/4.0/",
}


def croissant(card: Card, *, prose: str = "") -> dict[str, Any]:
    """The card as a Croissant data set.

    What a licence forbids, and what is wrong with the data, is carried along in the Responsible AI vocabulary. The
    records' layout is that of the publisher and is not described.

    Args:
        card: The card.
        prose: What the card's file says below its front matter.
    """
    described: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": card.name,
        "alternateName": card.title,
        "description": prose or card.title,
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "license": _CREATIVE_COMMONS.get(card.licence, card.licence),
        "url": card.home,
        "version": card.version,
        "citeAs": card.citation,
        "usageInfo": "; ".join([card.licence, *(f"forbids {one}" for one in card.forbids)]),
        "isAccessibleForFree": True,
        "variableMeasured": [{"@type": "PropertyValue", "name": name, "value": n} for name, n in card.counts.items()],
        "rai:dataCollection": card.obtain,
        "rai:dataLimitations": list(card.faults),
        "rai:dataBiases": list(card.demographics),
        "rai:dataUseCases": card.splits,
        "rai:personalSensitiveInformation": [
            f"consent: {card.consent}",
            f"identifiers were {'removed by the publisher' if card.deidentified else 'not removed'}",
        ],
        "distribution": [],
    }
    if len(card.sha256) == 64:
        described["distribution"] = [
            {
                "@type": "cr:FileObject",
                "@id": "annotations",
                "name": "annotations",
                "description": f"the annotation file that was counted; {card.obtain}",
                "contentUrl": card.home,
                "encodingFormat": "application/octet-stream",
                "sha256": card.sha256,
            }
        ]
    return described


def croissant_text(card: Card, *, folder: Path | None = None) -> str:
    """The Croissant file of a card, with the prose of the card's own file."""
    _, _, prose = ((folder or cards_folder()) / f"{card.name}.md").read_text(encoding="utf-8").partition("\n---")
    paragraphs = [line for line in prose.splitlines() if line.strip() and not line.startswith("#")]
    return json.dumps(croissant(card, prose=" ".join(paragraphs)), indent=2, ensure_ascii=False) + "\n"
