"""Images of a DICOMweb service."""

import time

import numpy as np
import pydicom
import pytest
from dicomweb_double import DicomWeb, dripping, listening
from series import write_dicom
from server_doubles import client_of, make_app

from medseg.data.layouts import find_dataset
from medseg.errors import ConfigError, DataError
from medseg.server import state
from medseg.server.datastore import Author
from medseg.server.datastore.dicomweb import RemoteDatastore, connect
from medseg.server.options import ServerOptions

pytestmark = pytest.mark.filterwarnings("ignore")  # values of the planted patient


class Service:
    """A service with one series, that counts what is asked."""

    def __init__(self, folder):
        self.instances = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        self.fetched, self.broken = [], False

    def search_for_series(self, *, search_filters, limit, offset):
        if self.broken:
            raise OSError("no route to Doe^Jane")
        first = self.instances[0]
        tags = {"0020000D": first.StudyInstanceUID, "0020000E": first.SeriesInstanceUID}
        listed = [{tag: {"vr": "UI", "Value": [str(uid)]} for tag, uid in tags.items()}]
        hostile = [{"0020000D": {"Value": ["1.2"]}, "0020000E": {"Value": ["../../x"]}}]
        return [*listed, *hostile] if search_filters["Modality"] == "CT" else []

    def retrieve_series(self, study, series, *, media_types):
        self.fetched.append(series)
        return self.instances


@pytest.fixture
def service(tmp_path):
    return Service(write_dicom(tmp_path / "source", np.arange(4 * 8 * 9).reshape(4, 8, 9)))


def test_series_are_listed_fetched_once_and_labeled_in_a_folder_for_training(service, tmp_path):
    store = RemoteDatastore(service, tmp_path / "cache")
    (uid,) = store.ids()
    assert uid == str(service.instances[0].SeriesInstanceUID)
    assert (service.fetched, store.unlabeled()) == ([], [uid])
    scan = store.scan(uid)
    assert store.image_file(uid).name == f"{uid}.nii.gz"
    assert service.fetched == [uid]
    label = np.zeros(scan.grid.shape, np.uint8)
    label[1:3, 1:3, 1:2] = 1
    store.save(uid, label, Author("ana"))
    (case,) = find_dataset(tmp_path / "cache").cases
    assert (case.id, case.label) == (uid, tmp_path / "cache" / "labels" / f"{uid}.nii.gz")
    again = RemoteDatastore(service, tmp_path / "cache")
    assert again.labeled() == [uid]
    assert np.array_equal(again.read_label(uid), label)
    assert service.fetched == [uid]


def test_a_service_that_does_not_answer(service, tmp_path):
    service.broken = True
    with pytest.raises(DataError, match="does not answer") as caught:
        RemoteDatastore(service, tmp_path / "cache")
    assert "Doe" not in str(caught.value)


def test_the_next_image_has_the_ids_that_ohif_needs(service, tmp_path, monkeypatch):
    monkeypatch.setattr(state, "connect", lambda url, seconds, longest: service)
    with pytest.raises(ConfigError, match="folder"):
        make_app("http://pacs.example/dicom-web")
    with client_of(make_app("http://pacs.example/dicom-web", cache=tmp_path / "cache")) as client:
        sample = client.post("/activelearning/random").json()
        assert sample["SeriesInstanceUID"] == sample["id"] == service.fetched[0]
        assert sample["StudyInstanceUID"] == str(service.instances[0].StudyInstanceUID)
        assert client.get("/datastore/image", params={"image": sample["id"]}).status_code == 200


def test_a_service_that_sends_few_series_at_a_time(service, tmp_path):
    uids = [f"1.2.{number}" for number in range(5)]

    def search(*, search_filters, limit, offset):
        two = uids[offset : offset + 2] if search_filters["Modality"] == "MR" else []
        return [{"0020000D": {"Value": ["1.2"]}, "0020000E": {"Value": [uid]}} for uid in two]

    service.search_for_series = search
    assert RemoteDatastore(service, tmp_path / "cache").ids() == uids


def test_a_service_that_answers_with_something_else(service, tmp_path):
    service.search_for_series = lambda **query: {"error": "Doe^Jane"}
    with pytest.raises(DataError, match="does not answer"):
        RemoteDatastore(service, tmp_path / "cache")


def test_a_series_without_images_is_asked_for_again(service, tmp_path):
    store = RemoteDatastore(service, tmp_path / "cache")
    (uid,) = store.ids()
    instances, service.instances = service.instances, []
    with pytest.raises(DataError, match="no images of the series"):
        store.scan(uid)
    service.instances = instances
    assert store.scan(uid).array.shape[0] == 1


def test_requests_end_after_a_time(monkeypatch):
    requests = pytest.importorskip("requests")
    waited = []

    def send(self, request, **options):
        waited.append(options["timeout"])
        return requests.Response()

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    client = connect("http://127.0.0.1:9/dicom-web")
    for timeout in (20, None):  # with and without the client's own
        client._session.get_adapter("http://127.0.0.1:9/").send(None, timeout=timeout)
    assert waited == [(10.0, 120.0)] * 2
    assert client._max_attempts == 2  # not five, in half a minute


def test_a_series_that_is_too_long_is_given_up(tmp_path):
    source = DicomWeb(write_dicom(tmp_path / "source", np.arange(4 * 8 * 9).reshape(4, 8, 9)))
    with listening(source.app) as url:
        client = connect(f"{url}/dicom-web", 30.0, 2000)
        client.set_http_retry_params(max_attempts=1)
        store = RemoteDatastore(client, tmp_path / "cache")
        (uid,) = store.ids()
        with pytest.raises(DataError, match=r"cannot be fetched \(ReplyTooLongError\)"):
            store.scan(uid)
        assert not (tmp_path / "cache" / "images" / uid).exists()
        store = RemoteDatastore(connect(f"{url}/dicom-web", 30.0, 1 << 20), tmp_path / "cache")
        assert store.scan(uid).array.shape[0] == 1


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"]
)
def test_a_service_that_sends_byte_by_byte(head):
    with dripping(head) as url:
        began = time.monotonic()
        with pytest.raises((OSError, TimeoutError)):
            connect(url, 0.3, 1 << 20)._session.get(url)  # the client itself would try again
        assert time.monotonic() - began < 2


def test_no_password_is_shown(tmp_path):
    url = "http://ana:pass/word#1@pacs.example/dicom-web"
    assert ServerOptions(data=url, cache=tmp_path).data_name == "http://pacs.example/dicom-web"
    with pytest.raises(ConfigError, match=r"http://pacs\.example/dicom-web: images") as caught:
        ServerOptions(data=url)
    assert "word" not in str(caught.value)
