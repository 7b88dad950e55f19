"""The archive: reports are stored into it through DICOMweb (STOW-RS)."""

from contextlib import closing

from mmmed.data.dicomweb import open_client, open_session, told
from mmmed.serving.desk.outbox import WITHDRAWN
from mmmed.serving.hospital.result import Result
from mmmed.serving.hospital.structured_report import structured_report
from mmmed.serving.hospital.withdrawal import withdrawal

_PATIENCE = 60.0


class Archive:
    """Stores results as DICOM objects, whose identifiers are the same each time, so that they are there once.

    Args:
        url: Of the DICOMweb service; who signs in comes from the environment (`MMMED_DICOMWEB_USER`, …).
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def send(self, result: Result) -> None:
        """Store a result; one that is called back is rejected by a note beside it. Raises `DataError`."""
        made = withdrawal(result) if result.kind == WITHDRAWN else structured_report(result)
        with closing(open_session(self.url)) as session:
            client = open_client(self.url, session, patience=_PATIENCE)
            with told(self.url):
                client.store_instances([made])
