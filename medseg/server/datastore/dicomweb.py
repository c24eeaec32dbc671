"""Images of a DICOMweb service: listed by series, fetched when they are needed, labeled in a local folder."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medseg.data.cases import Case
from medseg.data.labels.schema import LabelSchema
from medseg.data.layouts.discovery import DatasetListing
from medseg.data.scans import Scan
from medseg.errors import DataError, MedsegError
from medseg.files import check_writable, write_folder_atomic
from medseg.geometry import Array
from medseg.server.datastore.seg_sender import SegSender
from medseg.server.datastore.store import Datastore
from medseg.server.datastore.versions import FINAL, Author, LabelVersion
from medseg.server.errors import RefusedError
from medseg.server.http.logs import LOGGER, describe_failure
from medseg.server.http.sessions import bounded_session

MODALITIES = ("CT", "MR", "PT")
"""Modalities whose series are listed."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_PAGE = 500
_MOST_SERIES = 20_000
_STUDY, _SERIES = "0020000D", "0020000E"


class DicomWebClient(Protocol):
    """The part of ``dicomweb_client.DICOMwebClient`` that is used."""

    def search_for_series(self, **query: Any) -> list[dict[str, Any]]:
        """Find series (QIDO-RS)."""
        ...

    def store_instances(self, datasets: list[Any], /) -> Any:
        """Store objects (STOW-RS)."""
        ...

    def retrieve_series(self, study: str, series: str, /, **options: Any) -> list[Any]:
        """Fetch the instances of a series (WADO-RS)."""
        ...


def connect(url: str, seconds: float = 600.0, longest: int = 1 << 30) -> DicomWebClient:
    """Return a client of a DICOMweb service; a user and a password may be in the URL.

    Args:
        url: address of the service.
        seconds: time for one request, its reply included.
        longest: bytes of a reply, which is held in memory.

    Raises:
        ConfigError: the package dicomweb-client is not installed.
    """
    session = bounded_session(seconds, longest)
    from dicomweb_client import DICOMwebClient

    client: Any = DICOMwebClient(url.rstrip("/"), session=session)
    client.set_http_retry_params(max_attempts=2)  # its default tries for half a minute
    return client


@dataclass(frozen=True)
class Series:
    """One series of the service."""

    study: str
    uid: str


def find_series(client: DicomWebClient) -> Iterator[Series]:
    """Yield the series of images that a service has.

    A service may send fewer than it is asked for: the next ones are asked for until there are no new ones.

    Raises:
        DataError: the service does not answer.
    """
    for modality in MODALITIES:
        known: set[str] = set()
        start = 0
        while start < _MOST_SERIES:
            try:
                found = client.search_for_series(
                    search_filters={"Modality": modality}, limit=_PAGE, offset=start
                )
                listed = {_value(one, _SERIES): _value(one, _STUDY) for one in found}
            except Exception as error:  # requests raises errors of many kinds
                raise DataError(
                    f"the DICOMweb service does not answer ({type(error).__name__})",
                    hint="Check the URL: it ends before /studies.",
                ) from error
            new = {uid: study for uid, study in listed.items() if uid not in known}
            for uid, study in new.items():
                if _UID.fullmatch(study) and _UID.fullmatch(uid):
                    yield Series(study, uid)
            if not new:
                break
            known |= new.keys()
            start += len(found)


def _value(tags: Mapping[str, Any], tag: str) -> str:
    values = tags.get(tag, {}).get("Value") or [""]
    return str(values[0])


class RemoteDatastore(Datastore):
    """The series of a DICOMweb service as images; their ids are series instance UIDs.

    A series is fetched into ``FOLDER/images/UID`` when it is opened, its label lies in ``FOLDER/labels``: the
    folder is a dataset that ``medseg train`` accepts.

    Args:
        client: the service.
        folder: the local folder.
        suggested: labels to use where the folder declares none, such as those of a model.
        temporary: folder for files that are made for download.
        scan_bytes: memory for scans that were read before.
        send: sends saved labels to the service; None keeps them in the folder only.

    Raises:
        DataError: the service does not answer.
        NotWritableError: the local folder cannot be written to.
    """

    def __init__(
        self,
        client: DicomWebClient,
        folder: Path,
        suggested: LabelSchema | None = None,
        temporary: Path | None = None,
        scan_bytes: int = 1 << 30,
        send: SegSender | None = None,
    ) -> None:
        self._client, self._send = client, send
        self._unsent: set[str] = set()
        self._fetching = threading.Lock()  # one series at a time is in memory
        self._series: dict[str, Series] = {}
        check_writable(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        super().__init__(folder, suggested=suggested, temporary=temporary, scan_bytes=scan_bytes)

    def series(self, id: str) -> Series | None:
        """Return study and series of an image; None for images that only the folder has."""
        return self._series.get(id)

    def scan(self, id: str) -> Scan:
        """Return the image of a series, fetched if it is not in the folder."""
        self._fetch(id)
        return super().scan(id)

    def image_file(self, id: str) -> Path:
        """Return NIfTI made of a series."""
        self._fetch(id)
        return super().image_file(id)

    def add_image(self, id: str, file: Path) -> str:
        """Refuse: images are added to the service."""
        raise RefusedError("images are added to the DICOMweb service, not here")

    def save(
        self, id: str, label_map: Array, by: Author, *, tag: str = FINAL, if_match: str | None = None,
        is_stored: bool = False,
    ) -> LabelVersion:  # fmt: skip
        """Save a label as :meth:`Datastore.save` does, and send it to the service if that is wanted.

        Args:
            id: the image.
            label_map: (*S) integers on the image's grid.
            by: who saves it, and with what.
            tag: the tag; only labels of the tag ``final`` are sent.
            if_match: digest of the version that the label map was made from.
            is_stored: whether the service has the label already.
        """
        version = super().save(id, label_map, by, tag=tag, if_match=if_match)
        if tag == FINAL and self._send is not None and not is_stored:
            case = self.case(id)
            try:
                self._send.send(case.image, version, self.names.schema)
                self._unsent.discard(case.id)
            except (MedsegError, OSError) as error:  # the label is saved: the client learns it from is_sent
                LOGGER.warning("a label could not be sent as DICOM SEG: %s", describe_failure(error))
                self._unsent.add(case.id)
        return version

    def is_sent(self, id: str) -> bool | None:
        """Whether the label of an image that was saved last reached the service; None if it is not sent."""
        return None if self._send is None else self.case(id).id not in self._unsent

    def list_cases(self) -> DatasetListing:
        """List the series of the service and those in the folder, with their labels."""
        self._series = {one.uid: one for one in find_series(self._client)} or self._series
        images, labels = self.root / "images", self.root / "labels"
        local = {path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")}
        cases: list[Case] = []
        for uid in sorted({*self._series, *local}):
            label = labels / f"{uid}.nii.gz"
            cases.append(Case(uid, images / uid, label if label.is_file() else None))
        return DatasetListing("DICOMweb", cases)

    def _fetch(self, id: str) -> None:
        """Fetch a series into the folder."""
        case = self.case(id)
        if case.image.is_dir():
            return
        with self._by_case.turn(case.id):
            series = self._series[case.id]
            if case.image.is_dir():
                return
            with self._fetching:
                self._fetch_into(case.image, series)

    def _fetch_into(self, target: Path, series: Series) -> None:
        try:
            instances = self._client.retrieve_series(
                series.study, series.uid, media_types=("application/dicom",)
            )
        except Exception as error:  # requests and pydicom raise errors of many kinds
            raise DataError(f"the series cannot be fetched ({type(error).__name__})") from error
        if not instances:
            raise DataError("the DICOMweb service has no images of the series")
        with write_folder_atomic(target, keep_existing=True) as folder:
            for number, instance in enumerate(instances, 1):
                instance.save_as(folder / f"{number:05d}.dcm")
