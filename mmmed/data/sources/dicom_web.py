"""A hospital's archive through DICOMweb: objects are found with QIDO-RS, fetched with WADO-RS, then read as files."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from mmmed.data.dicomweb import open_client, open_session, told
from mmmed.data.sources.dicom_folder import DicomFolder
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions
from mmmed.errors import DataError, ImageError, OutputError
from mmmed.processing.dicom import dicom_faults
from mmmed.records import Example, Quarantined

if TYPE_CHECKING:
    from dicomweb_client.web import DICOMwebClient

logger = logging.getLogger(__name__)

_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_UID = re.compile(r"[0-9.]{1,64}")


class _Place(NamedTuple):
    """Where an object lies in the archive."""

    study: str
    series: str
    instance: str


class DicomWeb:
    """Fetches objects that a search finds into a folder, once, and reads this folder as `DicomFolder` does.

    The folder holds the objects as they are in the archive, identifiers included, so it belongs where patients' data
    may lie. What is there already is not fetched again. The user's name and password, or a bearer token, come from the
    environment (`MMMED_DICOMWEB_USER` and `MMMED_DICOMWEB_PASSWORD`, or `MMMED_DICOMWEB_TOKEN`).

    Args:
        url: Of the service, such as https://archive.example.org/dicom-web.
        folder: Where the objects are kept.
        studies: What studies must match, by attribute, such as `{StudyDate: 20240101-20240131}`.
        series: What their series must match, such as `{Modality: CR}`.
        most_studies: Most studies that are fetched, since archives hold millions; a message says where more were found.
        table: A CSV file of questions and answers, as `DicomFolder` reads it.
        instruction: What is asked where the table has no question.
        slices: Most pictures of one series, at even distances through it.
        window: Name of a CT window, such as `lung`; None takes the one of the file.
        seed: Changes which patients fall into which split.
        fractions: Share of the patients in each split.
        patience: Seconds to wait for an answer.
    """

    name = "dicom_web"

    def __init__(
        self,
        url: str,
        folder: str,
        *,
        studies: dict[str, str] | None = None,
        series: dict[str, str] | None = None,
        most_studies: int = 100,
        table: str | None = None,
        instruction: str = "Describe this image.",
        slices: int = 1,
        window: str | None = None,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        patience: float = 30.0,
    ) -> None:
        self.url = url
        self.folder = Path(folder)
        self.studies = studies or {}
        self.series = series or {}
        self.most_studies = most_studies
        self.patience = patience
        self._files = DicomFolder(
            folder,
            table=table,
            instruction=instruction,
            slices=slices,
            window=window,
            seed=seed,
            fractions=fractions,
        )
        self._files.name = self.name
        self._broken: list[Quarantined] = []

    def prepare(self) -> None:
        """Search, and fetch what is not in the folder yet.

        Raises:
            ConfigError: The url is none, or the client is not installed.
            DataError: The server does not answer, refuses, knows no such thing, or speaks no DICOMweb.
            OutputError: The folder cannot be written to.
        """
        with closing(open_session(self.url)) as session:
            self._fetch_all(open_client(self.url, session, patience=self.patience))

    def _fetch_all(self, client: "DICOMwebClient") -> None:
        with told(self.url):
            places = list(self._places(client))
        if not places:
            raise DataError(f"DICOMweb server {self.url} has nothing that matches; check `studies` and `series`")
        missing = [place for place in places if not self._file(place).is_file()]
        self._broken = []
        for place in tqdm(missing, desc="objects", unit="object", disable=None):
            try:
                self._fetch(client, place)
            except ImageError as error:
                self._broken.append(Quarantined(self.name, place.instance, str(error)))

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield what could not be fetched whole, and what `DicomFolder` makes of the folder.

        Raises:
            DataError: Nothing was fetched yet, or the table lacks its columns.
        """
        yield from self._broken
        yield from self._files.records()

    def _places(self, client: "DICOMwebClient") -> Iterator[_Place]:
        found = client.search_for_studies(search_filters=dict(self.studies), limit=self.most_studies + 1)
        if len(found) > self.most_studies:
            logger.warning("more than %d studies match; raise `most_studies` for more", self.most_studies)
        for study in (_uid(one, _STUDY) for one in found[: self.most_studies]):
            for series in client.search_for_series(study, search_filters=dict(self.series)):
                of_series = _uid(series, _SERIES)
                for instance in client.search_for_instances(study, of_series):
                    yield _Place(study, of_series, _uid(instance, _INSTANCE))

    def _file(self, place: _Place) -> Path:
        return self.folder / place.study / place.series / f"{place.instance}.dcm"

    def _fetch(self, client: "DICOMwebClient", place: _Place) -> None:
        path = self._file(place)
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        content = BytesIO()
        with dicom_faults(path):
            with told(self.url):
                dataset = client.retrieve_instance(*place)
            dataset.save_as(content, enforce_file_format=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content.getbuffer())
            partial.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path} ({error.strerror}); choose another folder") from error
        finally:
            partial.unlink(missing_ok=True)


def _uid(found: Mapping[str, Mapping[str, object]], tag: str) -> str:
    """A UID out of an answer, which becomes a file's name and so must not be anything else."""
    values = found.get(tag, {}).get("Value")
    uid = str(values[0]) if isinstance(values, list) and values else ""
    if not _UID.fullmatch(uid) or not uid.strip("."):
        raise ValueError(f"an answer without a usable UID in {tag}")
    return uid
