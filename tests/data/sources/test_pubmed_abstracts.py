import gzip
import logging
from pathlib import Path

import pytest

from mmmed.data.sources.pubmed_abstracts import PubMedAbstracts, read_pmids
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined, Turn

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle//EN" '
    '"https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">\n<PubmedArticleSet>\n'
)


def article(pmid: str, abstract: str, *, title: str = "A <i>title</i>.", kind: str = "Journal Article") -> str:
    return (
        f'<PubmedArticle><MedlineCitation Status="MEDLINE"><PMID Version="1">{pmid}</PMID><Article>'
        "<Journal><JournalIssue><PubDate><Year>2019</Year></PubDate></JournalIssue></Journal>"
        f"<ArticleTitle>{title}</ArticleTitle>{abstract}<Language>eng</Language>"
        f"<PublicationTypeList><PublicationType>{kind}</PublicationType></PublicationTypeList>"
        "</Article></MedlineCitation><PubmedData><ArticleIdList><ArticleId>9</ArticleId></ArticleIdList>"
        "<ReferenceList><Reference><ArticleIdList><ArticleId>777</ArticleId></ArticleIdList></Reference>"
        "</ReferenceList></PubmedData></PubmedArticle>\n"
    )


def plain(text: str) -> str:
    return f"<Abstract><AbstractText>{text}</AbstractText></Abstract>"


def write(path: Path, *articles: str) -> str:
    content = (HEAD + "".join(articles) + "</PubmedArticleSet>\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path.parent)


@pytest.mark.parametrize("name", ["pubmed26n0001.xml", "pubmed26n0001.xml.gz"])
def test_an_article_is_a_document_of_title_and_parts(tmp_path: Path, name: str) -> None:
    parts = (
        '<Abstract><AbstractText Label="BACKGROUND">CO<sub>2</sub> is\n high.</AbstractText>'
        '<AbstractText Label="RESULTS">It &lt; 5.</AbstractText></Abstract>'
    )
    (example,) = PubMedAbstracts(write(tmp_path / name, article("21645374", parts))).records()
    assert isinstance(example, Example)
    assert (example.id, example.patient, example.topic) == ("21645374", "21645374", "abstract")
    assert example.turns == (Turn("document", "A title.\n\nBACKGROUND: CO2 is high.\nRESULTS: It < 5."),)
    assert example.attributes == {"year": "2019", "language": "eng"}


def test_articles_are_left_out_by_number_or_for_want_of_an_abstract(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write(tmp_path / "a.xml", article("1", plain("One.")), article("2", ""), article("3", plain("Three.")))
    (tmp_path / "test_ground_truth.json").write_text('{"3": "yes", "4": "no"}')
    with caplog.at_level(logging.INFO):
        (example,) = PubMedAbstracts(root, without=str(tmp_path / "test_ground_truth.json")).records()
    assert isinstance(example, Example) and example.id == "1"
    assert sorted(caplog.messages) == [
        "pubmed_abstracts: left out 1 articles that were to be left out",
        "pubmed_abstracts: left out 1 articles without an abstract",
    ]


def test_retracted_and_repeated_articles_are_set_aside(tmp_path: Path) -> None:
    write(tmp_path / "a.xml", article("1", plain("Old.")), article("2", plain("Wrong."), kind="Retracted Publication"))
    root = write(tmp_path / "b.xml.gz", article("1", plain("New.")), article("", plain("Whose?")))
    first, *faults = sorted(PubMedAbstracts(root).records(), key=lambda one: isinstance(one, Quarantined))
    assert isinstance(first, Example) and first.turns[0].text.endswith("Old.")
    assert faults == [
        Quarantined("pubmed_abstracts", "a.xml[2]", "the article was retracted"),
        Quarantined("pubmed_abstracts", "b.xml.gz[1]", "the identifier '1' is used before"),
        Quarantined("pubmed_abstracts", "b.xml.gz[2]", "'pmid' is empty"),
    ]


def test_long_abstracts_are_cut(tmp_path: Path) -> None:
    root = write(tmp_path / "a.xml", article("1", plain("A sentence of some words. " * 20)))
    found = list(PubMedAbstracts(root, longest=200).records())
    assert [one.id for one in found if isinstance(one, Example)][:2] == ["1", "1#1"]
    assert {one.patient for one in found if isinstance(one, Example)} == {"1"}


@pytest.mark.parametrize("name", ["a.xml", "a.xml.gz"])
def test_damaged_files_stop_the_run(tmp_path: Path, name: str) -> None:
    root = write(tmp_path / name, *(article(str(number), plain("Text.")) for number in range(50)))
    whole = (tmp_path / name).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\x1f\x8b no gzip"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DataError, match=r"cannot be read as PubMed XML .*; fetch it again"):
            list(PubMedAbstracts(root).records())


def test_an_entity_that_grows_without_end_is_refused(tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY l0 "ha">{laughs}]><s><PubmedArticle>&l9;</PubmedArticle></s>'
    (tmp_path / "a.xml").write_text(bomb)
    with pytest.raises(DataError, match="cannot be read as PubMed XML"):
        list(PubMedAbstracts(str(tmp_path)).records())


@pytest.mark.parametrize("text", ['{"1": "yes", "2": "no"}', "[1, 2]", '["1", "2"]', "1\n2\n", "2 1"])
def test_numbers_to_leave_out_are_read_from_json_or_lines(tmp_path: Path, text: str) -> None:
    (tmp_path / "pmids").write_text(text)
    assert read_pmids(tmp_path / "pmids") == {"1", "2"}


@pytest.mark.parametrize("text", ["[1,", "PMC12\n", '["x"]', '[["1"]]'])
def test_what_is_no_list_of_numbers_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pmids").write_text(text)
    with pytest.raises(DataError, match=r"expected one PMID a line|expected one number a line"):
        read_pmids(tmp_path / "pmids")


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected files such as .*card data/pubmed_abstracts\.md"):
        list(PubMedAbstracts(str(tmp_path)).records())
    with pytest.raises(ConfigError, match="longest is 0"):
        PubMedAbstracts(str(tmp_path), longest=0)
