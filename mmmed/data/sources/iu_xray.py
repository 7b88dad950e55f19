"""Indiana University's chest films with reports, known as Open-i (Demner-Fushman et al., JAMIA 2016)."""

import io
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.study import DEFAULT_QUESTIONS, Film, Study, StudyQuestions, ask_about, normal_view
from mmmed.data.tabular import index_images, indexed_image, no_layout, present, read_csv
from mmmed.errors import DataError, RecordError
from mmmed.processing.findings.labeller import NO_FINDING
from mmmed.records import Example, Quarantined

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
    NO_FINDING,
)

_IMAGE_FOLDERS = ("images", "NLMCXR_png", "png")
_NORMAL = "normal"


class _Report(NamedTuple):
    """One file of the collection, as read: its name and its XML."""

    place: str
    xml: bytes


class IuXray:
    """Reads the release of the National Library of Medicine: reports in XML, and images as PNG.

    Reports lie as NLMCXR_reports.tgz or unpacked in ecgen-radiology/; images in images/, NLMCXR_png/ or png/. Two more
    tables are read where they lie beside them: openi_gld_std14.csv, fourteen findings that experts gave each report
    (NegBio), and image_header_subset.csv, the view of each image. Without images, ask for `images: none`.

    The release names reports and not patients; each report counts as a patient of its own.

    Args:
        root: Folder with the reports.
        seed: Changes which reports fall into which split.
        fractions: Share of the reports in each split.
        ask: What is asked about each study. `without: [XXXX]` leaves out the sections in which words are blacked out.
    """

    name = "iu_xray"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        ask: StudyQuestions = DEFAULT_QUESTIONS,
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.ask = ask

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions report by report, in the order of their numbers.

        Raises:
            DataError: There are no reports, or no images, or no labels though findings are asked for.
        """
        yield from ask_about(self._studies(), source=self.name, ask=self.ask)

    def _studies(self) -> Iterator[Study | Quarantined]:
        reports = self._reports()
        images, views, labels = self._images(), self._views(), self._labels()
        for report in reports:
            try:
                yield self._study(report, images, views, labels)
            except RecordError as error:
                yield Quarantined(self.name, report.place, str(error))

    def _reports(self) -> list[_Report]:
        archive, folder = self.root / "NLMCXR_reports.tgz", self.root / "ecgen-radiology"
        if folder.is_dir():
            reports = [_Report(path.name, path.read_bytes()) for path in folder.glob("*.xml")]
        elif archive.is_file():
            reports = list(_unpacked(archive))
        else:
            raise no_layout(self.name, root=self.root, expected="NLMCXR_reports.tgz or ecgen-radiology/")
        return sorted(reports, key=lambda report: (len(report.place), report.place))

    def _images(self) -> Mapping[str, Path]:
        if self.ask.images == "none":
            return {}
        folders = [self.root / name for name in _IMAGE_FOLDERS if (self.root / name).is_dir()]
        if not folders:
            raise no_layout(
                self.name, root=self.root, expected="images in images/ or NLMCXR_png/ (or ask for `images: none`)"
            )
        return index_images(folders)

    def _views(self) -> Mapping[str, str]:
        table = self.root / "image_header_subset.csv"
        if not table.is_file():
            return {}
        rows = read_csv(table, columns=("imageid", "view"))
        return {_image_key(row.maybe("imageid")): normal_view(row.maybe("view")) for row in rows}

    def _labels(self) -> Mapping[str, tuple[str, ...]]:
        """The findings of each report that the experts read."""
        table = self.root / "openi_gld_std14.csv"
        if not table.is_file():
            if self.ask.asks_for_findings():
                raise no_layout(self.name, root=self.root, expected="openi_gld_std14.csv, which holds the findings")
            return {}
        columns = {finding: _NORMAL if finding == NO_FINDING else finding for finding in FINDINGS}
        return {
            row.text("filename"): tuple(finding for finding in FINDINGS if row.maybe(columns[finding]) == "1")
            for row in read_csv(table, columns=("filename", *columns.values()))
        }

    def _study(
        self,
        report: _Report,
        images: Mapping[str, Path],
        views: Mapping[str, str],
        labels: Mapping[str, tuple[str, ...]],
    ) -> Study:
        root = _parsed(report)
        identifier = _attribute(root, "uId")
        sections = {label: _section(root, label) for label in ("findings", "impression")}
        names = [image.get("id", "") for image in root.iter("parentImage")]
        if not names and self.ask.images != "none":
            raise RecordError("its report names no image")
        mesh = ";".join(term.text.strip() for term in root.iter("major") if term.text)
        return Study(
            id=identifier,
            patient=identifier,
            films=tuple(
                Film(
                    name=name,
                    image=indexed_image(images, f"{name}.png"),
                    view=views.get(_image_key(name), ""),
                )
                for name in (names if self.ask.images != "none" else [])
            ),
            split=assign(identifier, seed=self.seed, fractions=self.fractions),
            sections=sections,
            present=labels.get(identifier, ()),
            known=FINDINGS if identifier in labels else (),
            attributes=present({"mesh": mesh, "findings": ";".join(labels.get(identifier, ()))}),
        )


def _unpacked(archive: Path) -> Iterator[_Report]:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes()), mode="r:gz") as files:
            for member in files:
                content = files.extractfile(member) if member.name.endswith(".xml") else None
                if content is not None:
                    yield _Report(Path(member.name).name, content.read())
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{archive} cannot be unpacked ({error}); fetch it again") from error


def _parsed(report: _Report) -> Element:
    # Entities could be made to fill the memory; no report of the release declares any.
    if b"<!ENTITY" in report.xml:
        raise RecordError("declares entities, which no report of the release does")
    try:
        return ElementTree.fromstring(report.xml)
    except ElementTree.ParseError as error:
        raise RecordError(f"no XML ({error})") from error


def _attribute(root: Element, tag: str) -> str:
    element = root.find(tag)
    value = "" if element is None else element.get("id", "")
    if not value:
        raise RecordError(f"has no {tag}")
    return value


def _section(root: Element, label: str) -> str:
    texts = [part.text or "" for part in root.iter("AbstractText") if part.get("Label") == label.upper()]
    return " ".join(" ".join(texts).split())


def _image_key(name: str) -> str:
    # One image is CXR1_1_IM-0001-3001 in its report and CXR1_IM-0001-3001 in the table of headers.
    return re.sub(r"^(CXR\d+)_\d+_", r"\1_", name)
