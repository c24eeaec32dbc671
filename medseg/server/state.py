"""What the routes of a server share."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from medseg.data.labels.schema import LabelSchema
from medseg.errors import DataError
from medseg.server.active_learning import Strategies
from medseg.server.datastore import Datastore
from medseg.server.datastore.dicomweb import RemoteDatastore, connect
from medseg.server.datastore.names import label_schema
from medseg.server.datastore.seg_sender import SegSender
from medseg.server.http.logs import LOGGER, LogLines
from medseg.server.http.threads import Threads
from medseg.server.memory import MemoryBudget
from medseg.server.models import Model, ModelPool, PromptSessions
from medseg.server.models.pool import Turns
from medseg.server.options import ServerOptions
from medseg.server.training import Trainings
from medseg.server.uploads import UploadSessions
from medseg.system.platform import has_ended, process_token

_REMEMBERED = 4096
_PREFIX = "medseg-serve-"
_COPIES = 4
"""Copies of a series in memory while it is fetched: the reply, its parts, the objects, their voxels."""


class ServerState:
    """What the routes of a server share: dataset, models, sessions, log.

    Args:
        options: the server's options.
        models: the models to serve.

    Attributes:
        datastore: images and labels.
        models: the models.
        clicks: open images with prompts.
        strategies: choose the next image to label.
        training: starts and stops trainings.
        memory: what images of clients may take.
        uploads: images of clients that are not in the dataset.
        threads: runs blocking work.
        log: the last lines of the log.
        temporary: folder of files that are needed for one request or one session.
        on_close: called when the server ends.
    """

    def __init__(self, options: ServerOptions, models: Sequence[Model]) -> None:
        limits = options.limits
        self.options, self.started = options, time.time()
        self.on_close: list[Callable[[], None]] = []
        for model in models:
            model.turns = Turns(limits.waiting, limits.request_seconds)
        self.models = ModelPool(models)
        _remove_folders_of_ended_servers()
        self.temporary = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{process_token()}-"))
        try:
            self.datastore = self._open_datastore()
        except BaseException:
            self.close()
            raise
        self.clicks = PromptSessions(self.models, limits.sessions, limits.session_seconds)
        self.memory = MemoryBudget(limits.sent_bytes)
        self.uploads = UploadSessions(
            self.temporary / "sessions", limits.sessions, limits.session_seconds, self.memory
        )
        self.strategies = Strategies(self.datastore, self.models, limits.lease_seconds)
        self.training = Trainings(options, self.datastore, self.models)
        waiting = (limits.waiting + 1) * len(models)  # requests that wait for models leave threads for others
        self.threads = Threads(limits.threads + waiting, 4 * limits.threads, limits.request_seconds)
        self.log = LogLines()
        LOGGER.addHandler(self.log)
        LOGGER.setLevel(logging.INFO)
        self._proposals: OrderedDict[tuple[str, str], dict[str, str]] = OrderedDict()
        self._lock = threading.Lock()

    def note_proposal(self, client: str, image: str, model: Model) -> None:
        """Remember that a client received the result of a model for an image."""
        with self._lock:
            self._proposals.setdefault((client, image), {})[model.name] = model.digest
            self._proposals.move_to_end((client, image))
            while len(self._proposals) > _REMEMBERED:
                self._proposals.popitem(last=False)

    def proposals(self, client: str, image: str) -> dict[str, str]:
        """Return name → digest of the models whose results a client received for an image."""
        with self._lock:
            return dict(self._proposals.get((client, image), {}))

    def label_names(self) -> list[str]:
        """Return the names of the dataset's labels and those that only a model has."""
        names = list(self.datastore.labels())
        for model in self.models.automatic:
            names += [name for name in model.labels if name not in names]
        return names

    def close(self) -> None:
        """Stop a training, and remove the temporary files."""
        if hasattr(self, "training"):
            self.training.close()
        for call in self.on_close:
            call()
        self.on_close.clear()
        shutil.rmtree(self.temporary, ignore_errors=True)
        if hasattr(self, "log"):
            LOGGER.removeHandler(self.log)

    def _open_datastore(self) -> Datastore:
        options, suggested, download = self.options, self._suggested_labels(), self.temporary / "download"
        size = options.limits.scan_bytes
        if options.is_remote_data and options.cache is not None:
            longest = options.limits.sent_bytes // _COPIES
            client = connect(str(options.data), options.limits.request_seconds, longest)
            send = SegSender(client) if options.send_seg else None
            return RemoteDatastore(client, options.cache, suggested, download, size, send)
        return Datastore(Path(options.data), options.layout, suggested, download, size)

    def _suggested_labels(self) -> LabelSchema | None:
        """Return the labels to use where the dataset declares none."""
        named = label_schema(self.options.labels)
        if named is not None:
            return named
        automatic = self.models.automatic
        return automatic[0].schema if automatic else None


def check_open(state: ServerState) -> None:
    """Check that the dataset has images.

    Raises:
        DataError: it has none.
    """
    if not state.datastore.ids():
        raise DataError(f"{state.options.data_name}: contains no images")


def _remove_folders_of_ended_servers() -> None:
    """Remove the temporary folders of servers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if has_ended(folder.name.removeprefix(_PREFIX).rpartition("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)
