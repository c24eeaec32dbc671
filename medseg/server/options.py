"""Options of the server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.layouts.discovery import DEFAULT_LAYOUT, LayoutOptions
from medseg.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Bounds of requests.

    Attributes:
        upload_bytes: largest body of a request.
        text_bytes: largest JSON body or text field.
        request_seconds: time after which a request is answered with an error.
        waiting: requests that may wait for one model.
        threads: requests that are computed at the same time.
        session_seconds: time after which an unused session is closed.
        sessions: largest number of open sessions of each kind.
        scan_bytes: memory for scans that were read before.
        sent_bytes: memory for images that clients send, with all open sessions.
        lease_seconds: time for which a case handed out for annotation is not given to another client.
    """

    upload_bytes: int = 1 << 30
    text_bytes: int = 16 << 20
    request_seconds: float = 600.0
    waiting: int = 8
    threads: int = 8
    session_seconds: float = 3600.0
    sessions: int = 16
    scan_bytes: int = 1 << 30
    sent_bytes: int = 4 << 30
    lease_seconds: float = 900.0


@dataclass(frozen=True)
class ServerOptions:
    """Options of the server.

    Attributes:
        data: folder or manifest of the dataset, or URL of a DICOMweb service.
        models: models to serve: run folders, model files, names of published networks; ``NAME=PATH`` renames
            one, ``PATH,PATH`` averages several.
        host: address to listen on.
        port: port to listen on.
        token: secret that clients send; required unless the host is this machine only.
        certificate: file with the TLS certificate; without it, connections are not encrypted.
        key: file with the certificate's key, if it is not in the same file.
        labels: names of the labels, if neither dataset nor models declare any.
        layout: settings that select files of the dataset.
        runs: folder of trainings; ``runs`` beside the dataset if None.
        train: settings of trainings, such as ``train.epochs=50``.
        cache: folder of images from DICOMweb, with their labels; required for a URL.
        ohif: built OHIF that is served at ``/ohif/``: its folder, or MONAI Label's wheel.
        send_seg: whether saved labels are sent to the DICOMweb service as DICOM SEG.
        allowed_hosts: further names by which clients reach the server.
        allowed_origins: further web pages that may use the server, such as ``https://viewer.example.org``.
        device: device of the models.
        propagate: whether SAMs propagate a prompt's mask to the slices of a volume around it; None: not on a
            CPU, where each slice takes seconds.
        page: whether the annotation page is served.
        limits: bounds of requests.
    """

    data: Path | str
    models: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    labels: tuple[str, ...] = ()
    layout: LayoutOptions = DEFAULT_LAYOUT
    runs: Path | None = None
    train: tuple[str, ...] = ()
    cache: Path | None = None
    ohif: Path | None = None
    send_seg: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    device: str = "auto"
    propagate: bool | None = None
    page: bool = True
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < 8:
            raise ConfigError("the token is shorter than 8 characters", hint="Choose a longer secret.")
        if self.token is None and not self.is_local:
            raise ConfigError(
                f"host {self.host}: other machines can reach the server, and it has no token",
                hint="Set one with --token (or MEDSEG_TOKEN), or leave --host out.",
            )
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise ConfigError(f"{path}: no such file", path=path)
        if self.is_remote_data and self.cache is None:
            raise ConfigError(
                f"{self.data_name}: images from DICOMweb and their labels need a folder",
                hint="Name it with --cache.",
            )
        for option, given in (("--ohif", self.ohif is not None), ("--send-seg", self.send_seg)):
            if given and not self.is_remote_data:
                raise ConfigError(
                    f"{option} needs images from a DICOMweb service, got {self.data}",
                    hint="Name the service: --data http://127.0.0.1:8042/dicom-web",
                )

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_remote_data(self) -> bool:
        """Whether the data is a DICOMweb service."""
        return str(self.data).startswith(("http://", "https://"))

    @property
    def data_name(self) -> str:
        """The dataset as it may be shown: without user and password of a URL."""
        if not self.is_remote_data:
            return str(self.data)
        scheme, _, rest = str(self.data).partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"  # a password may contain / and #

    @property
    def url(self) -> str:
        """Address of the server on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.certificate else 'http'}://{shown}:{self.port}/"
