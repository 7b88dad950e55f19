import json

import pytest

from mmmed.data.card import cards_folder, read_card
from mmmed.data.croissant import croissant, croissant_text

NAMES = sorted(path.stem for path in cards_folder().glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize("name", NAMES)
def test_every_card_is_a_croissant_of_the_right_structure(name: str) -> None:
    described = json.loads(croissant_text(read_card(name)))
    assert described["@type"] == "sc:Dataset"
    assert described["conformsTo"][0] == "http://mlcommons.org/croissant/1.0"
    assert described["@context"]["cr"] == "http://mlcommons.org/croissant/"
    for key in ("name", "description", "license", "url", "version", "citeAs"):
        assert isinstance(described[key], str) and described[key], key
    for file in described["distribution"]:
        assert {"@type", "@id", "name", "contentUrl", "encodingFormat", "sha256"} <= file.keys()
        assert len(file["sha256"]) == 64


# The library's own use of rdflib.
@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_every_croissant_is_read_by_its_own_library(name: str) -> None:
    library = pytest.importorskip("mlcroissant", reason="an extra for development")
    metadata = library.Metadata.from_json(ctx=library.Context(), json_=json.loads(croissant_text(read_card(name))))
    assert metadata.name == name
    assert not metadata.issues.errors


def test_what_a_licence_forbids_and_what_is_wrong_is_carried_along() -> None:
    card = read_card("ham10000")
    described = croissant(card)
    assert described["license"] == "https://creativecommons.org/licenses/by-nc/4.0/"
    assert "forbids commercial use" in described["usageInfo"]
    assert described["rai:dataLimitations"] == list(card.faults)
    assert "identifiers were removed by the publisher" in described["rai:personalSensitiveInformation"]
