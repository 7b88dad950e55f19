import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.card import read_card
from mmmed.data.sources.iu_xray import FINDINGS, IuXray
from mmmed.data.splits import check_disjoint
from mmmed.data.study import StudyQuestions
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{number}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH><major>Cardiomegaly/mild</major><major>Lung/hypoinflation</major></MeSH>
{images}</eCitation>"""
LABELS = "filename," + ",".join([*FINDINGS[:-1], "normal"])


def report(number: int, findings: str = "Large  heart.", impression: str = "Cardiomegaly.", *images: str) -> str:
    tags = "".join(f'<parentImage id="{name}"/>' for name in images)
    return REPORT.format(number=number, findings=findings, impression=impression, images=tags)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two reports of the release: one of two views with labels, one without images."""
    (tmp_path / "ecgen-radiology").mkdir()
    images = ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")
    (tmp_path / "ecgen-radiology" / "1.xml").write_text(report(1, "Large  heart.", "Cardiomegaly.", *images))
    (tmp_path / "ecgen-radiology" / "2.xml").write_text(report(2, "", "Normal chest x-XXXX."))
    (tmp_path / "NLMCXR_png").mkdir()
    for name in images:
        Image.new("L", (4, 4)).save(tmp_path / "NLMCXR_png" / f"{name}.png")
    header = "imageid,uid,sex,view\nCXR1_IM-0001-3001,1,,LL\nCXR1_IM-0001-4001,1,,PA\n"
    (tmp_path / "image_header_subset.csv").write_text(header)
    (tmp_path / "openi_gld_std14.csv").write_text(f"{LABELS}\nCXR1,0,1{',0' * 13}\nCXR2{',0' * 14},1\n")
    return tmp_path


def read(root: Path, **settings: Any) -> tuple[list[Example], list[Quarantined]]:
    records = list(IuXray(str(root), ask=StudyQuestions(**settings)).records())
    found = [record for record in records if isinstance(record, Example)]
    return found, [record for record in records if isinstance(record, Quarantined)]


def test_a_report_is_asked_for_with_all_its_views(root: Path) -> None:
    found, bad = read(root, questions=("report", "findings", "impression"))
    assert [(example.id, example.reference) for example in found] == [
        ("CXR1:report", "Findings: Large heart.\nImpression: Cardiomegaly."),
        ("CXR1:findings", "Large heart."),
        ("CXR1:impression", "Cardiomegaly."),
    ]
    assert found[0].patient == found[0].study == "CXR1"
    assert [Path(image.name).stem[-4:] for image in found[0].images] == ["4001", "3001"]
    assert found[0].attributes == {
        "view": "PA;lateral",
        "findings": "Cardiomegaly",
        "mesh": "Cardiomegaly/mild;Lung/hypoinflation",
    }
    assert found[0].images[0].open().size == (4, 4)
    assert bad == [Quarantined("iu_xray", "2.xml", "its report names no image")]


def test_experts_findings_are_asked_with_yes_and_no(root: Path) -> None:
    found, _ = read(root, questions=("finding",), findings="all", images="each")
    assert [example.topic for example in found if example.reference == "yes"] == ["cardiomegaly"] * 2
    assert len(found) == 2 * len(FINDINGS)
    (root / "openi_gld_std14.csv").unlink()
    with pytest.raises(DataError, match=r"openi_gld_std14\.csv, which holds the findings"):
        read(root, questions=("finding",))


def test_a_packed_archive_without_images_gives_the_texts(root: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    with tarfile.open(alone / "NLMCXR_reports.tgz", "w:gz") as archive:
        for name in ("2", "1"):
            content = (root / "ecgen-radiology" / f"{name}.xml").read_bytes()
            member = tarfile.TarInfo(f"ecgen-radiology/{name}.xml")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    found, bad = read(alone, questions=("report", "impression"), images="none")
    assert [example.id for example in found] == ["CXR1:report", "CXR1:impression", "CXR2:report"]
    assert found[0].turns[0].speaker == "document"
    assert not bad
    with pytest.raises(DataError, match="ask for `images: none`"):
        read(alone, questions=("report",))
    (alone / "NLMCXR_reports.tgz").write_bytes((alone / "NLMCXR_reports.tgz").read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be unpacked"):
        read(alone, questions=("report",), images="none")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<eCitation>", "no XML"),
        ("<eCitation/>", "has no uId"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><eCitation><uId id="CXR3"/></eCitation>', "declares entities"),
        (report(3, "Clear.", "Normal.", "CXR3_gone"), "image 'CXR3_gone.png' is missing"),
        (report(3, "", "", "CXR1_1_IM-0001-3001"), "nothing to ask: its report has no findings or impression"),
    ],
)
def test_malformed_reports_are_set_aside(root: Path, content: str, reason: str) -> None:
    (root / "ecgen-radiology" / "3.xml").write_text(content)
    found, bad = read(root, questions=("report",))
    assert len(found) == 1
    assert len(bad) == 2
    assert reason in bad[-1].reason


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected NLMCXR_reports\.tgz or ecgen-radiology/; .*card data/iu_xray\.md"):
        read(tmp_path, images="none")


@pytest.mark.shared
def test_the_texts_have_the_counts_of_the_card(shared_data: Path) -> None:
    root = shared_data / "03_iuxray_reports_text"
    counts = read_card("iu_xray").counts
    found, bad = read(root, questions=("report", "impression", "finding"), images="none", findings="all")
    check_disjoint(found)
    topics = Counter(example.topic for example in found)
    assert topics["report"] + len(bad) == counts["reports"] == 3955
    assert len(bad) == counts["reports with neither section"]
    assert topics["impression"] == counts["reports with both sections"]
    documents = [example.turns[0].text for example in found if example.topic == "report"]
    assert sum(text.startswith("Findings: ") for text in documents) == counts["reports with findings"] == 3425
    assert sum("Impression: " in text for text in documents) == counts["reports with impression"] == 3921
    # The 25 labelled reports that hold no text cannot be asked about from their text.
    assert topics["cardiomegaly"] == counts["labelled reports"] - 25 == 3826
    clean, _ = read(root, questions=("report",), images="none", without=("XXXX",))
    assert not any("XXXX" in example.turns[0].text for example in clean)
    assert len(clean) == counts["reports with a section without XXXX"]
