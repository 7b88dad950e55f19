"""Abstracts of PubMed from the XML files of the National Library of Medicine, to go on learning a language from."""

import gzip
import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast
from xml.etree import ElementTree

from mmmed.data.entries import Entry
from mmmed.data.official import MOSTLY_TRAINING
from mmmed.data.passages import passages
from mmmed.data.splits import Fractions, assign
from mmmed.data.tabular import no_layout, present, quarantine
from mmmed.errors import ConfigError, DataError, RecordError
from mmmed.records import Example, Quarantined, Turn

logger = logging.getLogger(__name__)

RETRACTED = "Retracted Publication"
_NO_ABSTRACT = "articles without an abstract"
_EXCLUDED = "articles that were to be left out"


class PubMedAbstracts:
    """Reads the baseline or update files of PubMed (pubmedNNnNNNN.xml, also .gz), article by article.

    An article is a document of title and abstract; the parts of a structured abstract begin with their names.
    Retracted articles are set aside. Of an article that stands twice the first version counts.

    Args:
        root: Folder with the files, or one file.
        without: File that names articles to be left out by PMID, such as PubMedQA's test_ground_truth.json, whose
            questions the abstracts answer: an object or array of JSON, or one number a line.
        longest: Most characters of an example; the few longer abstracts are cut at the ends of sentences.
        seed: Changes which articles validate.
        fractions: Share of the articles in each split.
    """

    name = "pubmed_abstracts"

    def __init__(
        self,
        root: str,
        *,
        without: str | None = None,
        longest: int = 4000,
        seed: int = 0,
        fractions: Fractions = MOSTLY_TRAINING,
    ) -> None:
        if longest < 1:
            raise ConfigError(f"pubmed_abstracts: longest is {longest}; expected a number of characters, such as 4000")
        self.root = Path(root)
        self.without = Path(without) if without is not None else None
        self.longest = longest
        self.seed = seed
        self.fractions = fractions

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the abstracts in the order of the files.

        Raises:
            DataError: There is no such file, one is damaged, or the list of what is left out cannot be read.
        """
        files = [self.root] if self.root.is_file() else sorted((*self.root.glob("*.xml"), *self.root.glob("*.xml.gz")))
        if not files:
            raise no_layout(self.name, root=self.root, expected="files such as pubmed26n0001.xml.gz")
        left_out: Counter[str] = Counter()
        excluded = read_pmids(self.without) if self.without is not None else frozenset()
        articles = (entry for file in files for entry in _articles(file))
        chosen = (entry for entry in articles if not _is_left_out(entry, excluded, left_out))
        yield from quarantine(self.name, chosen, self._examples)
        for reason, count in left_out.items():
            logger.info("%s: left out %d %s", self.name, count, reason)

    def _examples(self, entry: Entry) -> Iterator[Example]:
        pmid, title, abstract = entry.text("pmid"), entry.maybe("title"), entry.text("abstract")
        if entry.values["retracted"]:
            raise RecordError("the article was retracted")
        text = f"{title}\n\n{abstract}" if title else abstract
        split = assign(pmid, seed=self.seed, fractions=self.fractions)
        for number, passage in enumerate(passages(text, longest=self.longest)):
            yield Example(
                id=f"{pmid}#{number}" if number else pmid,
                patient=pmid,
                turns=(Turn("document", passage),),
                topic="abstract",
                split=split,
                source=self.name,
                attributes=present({"year": entry.maybe("year"), "language": entry.maybe("language")}),
            )


def read_pmids(path: Path) -> frozenset[str]:
    """PMIDs from an object (its keys) or array of JSON, or one a line. Raises `DataError` for anything else."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        named = json.loads(text) if text.lstrip().startswith(("{", "[")) else text.split()
        pmids = frozenset(str(pmid).strip() for pmid in named)
    except (OSError, ValueError, RecursionError, TypeError) as error:
        raise DataError(f"pubmed_abstracts: {path} cannot be read ({error}); expected one PMID a line") from error
    if wrong := sorted(pmid for pmid in pmids if not (pmid.isascii() and pmid.isdigit())):
        raise DataError(f"pubmed_abstracts: {path} holds {wrong[0]!r}, which is no PMID; expected one number a line")
    return pmids


def _articles(path: Path) -> Iterator[Entry]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            # The root keeps every article that was read unless it is emptied on the way.
            events = ElementTree.iterparse(cast(IO[bytes], file), events=("start", "end"))
            _, root = next(events)
            number = 0
            for event, element in events:
                if event == "end" and element.tag == "PubmedArticle":
                    number += 1
                    yield _article(element, place=f"{path.name}[{number}]")
                    root.clear()
    except (OSError, EOFError, zlib.error, ElementTree.ParseError, StopIteration) as error:
        raise DataError(f"{path} cannot be read as PubMed XML ({error}); fetch it again") from error


def _article(element: ElementTree.Element, *, place: str) -> Entry:
    article = element.find("MedlineCitation/Article")
    if article is None:
        return Entry(place, fault="no MedlineCitation/Article")
    kinds = {_words(kind) for kind in article.iterfind("PublicationTypeList/PublicationType")}
    values = {
        "pmid": element.findtext("MedlineCitation/PMID"),
        "title": _words(article.find("ArticleTitle")),
        "abstract": "\n".join(filter(None, map(_part, article.iterfind("Abstract/AbstractText")))),
        "year": article.findtext("Journal/JournalIssue/PubDate/Year"),
        "language": article.findtext("Language"),
        "retracted": RETRACTED in kinds,
    }
    return Entry(place, values)


def _part(element: ElementTree.Element) -> str:
    words, label = _words(element), element.get("Label")
    return f"{label}: {words}" if label and words else words


def _words(element: ElementTree.Element | None) -> str:
    # Words in italics, subscripts and the like stand in elements of their own.
    return " ".join("".join(element.itertext()).split()) if element is not None else ""


def _is_left_out(entry: Entry, excluded: frozenset[str], left_out: Counter[str]) -> bool:
    if entry.fault:
        return False
    if not entry.values["abstract"]:
        left_out[_NO_ABSTRACT] += 1
        return True
    if entry.values["pmid"] in excluded:
        left_out[_EXCLUDED] += 1
        return True
    return False
