"""What the page does with the datastore: states of cases, label maps with versions, drafts, proposals."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medseg.data.chunked_statistics import look_up
from medseg.data.labels.schema import LabelSchema
from medseg.errors import DataError
from medseg.geometry import Array
from medseg.server.datastore.names import LabelNames
from medseg.server.datastore.versions import FINAL, Author, LabelVersion
from medseg.server.errors import ConflictError, RefusedError
from medseg.server.models import AutomaticModel
from medseg.server.page.images import PageImage

if TYPE_CHECKING:
    from medseg.server.state import ServerState

DRAFT = "draft"
"""Tag of labels that were saved but not accepted; they are not in the dataset's layout."""
_PREPARED = 2
State = Literal["open", "draft", "accepted"]


@dataclass(frozen=True)
class CurrentLabel:
    """The label of a case that the page shows: the accepted one, or a draft that was made from it.

    Attributes:
        tag: ``final`` or ``draft``.
        version: in the history of this tag.
    """

    tag: str
    version: LabelVersion

    @property
    def id(self) -> str:
        """Text that identifies this version."""
        return f"{self.tag}-{self.version.number}-{self.version.digest[:16]}"


class Desk:
    """Cases, labels and images of a server for the page. Methods can be called from several threads.

    Args:
        server: state of the server.
    """

    def __init__(self, server: ServerState) -> None:
        self.server = server
        self._lock = threading.Lock()
        self._saving: dict[str, threading.Lock] = {}
        self._images: OrderedDict[str, tuple[Any, PageImage]] = OrderedDict()
        self._last_label: tuple[str, Array] | None = None

    def cases(self) -> list[dict[str, Any]]:
        """Return id and state of every case."""
        store = self.server.datastore
        labeled = set(store.labeled())
        states: list[dict[str, Any]] = []
        for id in store.ids():
            state: State = "accepted" if id in labeled else "open"
            if DRAFT in store.tags(id):
                current = self.current(id)
                state = "draft" if current is not None and current.tag == DRAFT else state
            states.append({"id": id, "state": state})
        return states

    def current(self, id: str) -> CurrentLabel | None:
        """Return the label of a case that the page shows; None if there is none."""
        store = self.server.datastore
        final, draft = store.label(id), store.label(id, DRAFT)
        if draft is not None and (final is None or draft.record.get("note") == _basis(final)):
            return CurrentLabel(DRAFT, draft)
        return None if final is None else CurrentLabel(FINAL, final)

    def image(self, id: str) -> PageImage:
        """Return the image of a case for the page; those of the last cases are kept."""
        scan = self.server.datastore.scan(id)
        with self._lock:
            kept = self._images.get(id)
            if kept is not None and kept[0] is scan:
                self._images.move_to_end(id)
                return kept[1]
        image = PageImage.of(scan)
        with self._lock:
            self._images[id] = (scan, image)
            while len(self._images) > _PREPARED:
                self._images.popitem(last=False)
        return image

    def describe(self, id: str) -> dict[str, Any]:
        """Return what the page needs to know about a case."""
        image = self.image(id)
        names = self.server.datastore.case(id).channel_names
        channels = len(image.channels)
        if len(names) != channels:
            names = tuple(f"channel {index + 1}" for index in range(channels))
        label = self._read(id, self.current(id))
        return image.describe() | {
            "id": id,
            "channel_names": names,
            "background": self.background,
            "numbered": self.server.datastore.names.schema.collapse_instances,
            "label_dtype": self._label_type(label),
            "focus": _focus(image, label, self.background),
        }

    @property
    def background(self) -> int:
        """Value of voxels without a label."""
        schema = self.server.datastore.names.schema
        return schema.output_values[0] if schema.background else 0

    def classes(self) -> list[dict[str, Any]]:
        """Return value, name and color of every class, the background included."""
        store = self.server.datastore
        colors = store.colors()
        classes = [{"value": v, "name": name, "color": colors[name]} for name, v in store.labels().items()]
        ignored = store.names.schema.ignore_value
        if ignored is not None:
            classes.append({"value": ignored, "name": "ignored in training", "color": (150, 150, 150)})
        return classes

    def read_label(self, id: str) -> tuple[Array, str] | None:
        """Return the label map (X, Y, Z) of a case on the page's axes, and the id of its version."""
        current = self.current(id)
        if current is None:
            return None
        label = self._read(id, current)
        return None if label is None else (label.astype(self._label_type(label)), current.id)

    def save(self, id: str, label: Array, *, base: str, accepted: bool, by: Author) -> tuple[str, State]:
        """Save a label map of the page as a draft, or into the dataset if it is accepted.

        Args:
            id: the case.
            label: (X, Y, Z) on the page's axes.
            base: id of the version that it was made from; empty if there was none.
            accepted: whether it is the label of the case, which trainings use.
            by: who saves it.

        Returns:
            The id of the new version, and the new state.

        Raises:
            ConflictError: the newest version is not ``base``.
        """
        store = self.server.datastore
        values = self.image(id).frame.from_page(label)
        with self._lock:
            turn = self._saving.setdefault(id, threading.Lock())
        with turn:
            current = self.current(id)
            if (current.id if current is not None else "") != base:
                raise ConflictError("another window has saved the label since this one read it")
            tag = FINAL if accepted else DRAFT
            newest, final = store.label(id, tag), store.label(id)
            by = by if accepted or final is None else replace(by, note=_basis(final))
            saved = store.save(id, values, by, tag=tag, if_match=newest.digest if newest is not None else "")
        return CurrentLabel(tag, saved).id, "accepted" if accepted else "draft"

    def propose(self, id: str, model: str, client: str) -> Array:
        """Return the label map (X, Y, Z) of an automatic model, in the values of the dataset."""
        found = self.server.models.get(model)
        if not isinstance(found, AutomaticModel):
            raise RefusedError("this model answers prompts only")
        prediction = found.predict(self.server.datastore.scan(id))
        self.server.note_proposal(client, id, found)
        values = dataset_values(prediction.label_map, found.schema, self.server.datastore.names)
        if prediction.instances is not None and self.server.datastore.names.schema.collapse_instances:
            values = prediction.instances.label_map()
        label = self.image(id).frame.to_page(values)
        return label.astype(self._label_type(label))

    def next_case(self, strategy: str, client: str, after: str) -> str | None:
        """Return the case to label next; None if every case has a label."""
        store = self.server.datastore
        found = self.server.strategies.next(strategy, client)
        if found is not None and found != after:
            return found
        others = [one["id"] for one in self.cases() if one["state"] != "accepted" and one["id"] != after]
        return others[0] if others else (after if after and after in store.unlabeled() else None)

    def _read(self, id: str, current: CurrentLabel | None) -> Array | None:
        """Return a label map on the page's axes."""
        if current is None:
            return None
        key, last = f"{id} {current.id}", self._last_label
        if last is not None and last[0] == key:
            return last[1]
        values = self.server.datastore.read_label(id, current.tag, current.version.number)
        if values is None:
            return None
        self._last_label = (key, self.image(id).frame.to_page(values))
        return self._last_label[1]

    def _label_type(self, label: Array | None) -> str:
        """Return the type in which the page holds label maps."""
        schema = self.server.datastore.names.schema
        largest = max(self.server.datastore.names.all_values)
        if label is not None and label.size:
            if int(label.min()) < 0 or int(label.max()) > 65535:
                raise DataError("the label map has values outside 0 to 65535, which the page cannot edit")
            largest = max(largest, int(label.max()))
        return "uint8" if largest < 256 and not schema.collapse_instances else "uint16"


def dataset_values(label_map: Array, predicted: LabelSchema, names: LabelNames) -> Array:
    """Return a model's label map in the values of a dataset, by the names of the labels.

    A model and a dataset with one label each need not agree on its name.

    Raises:
        RefusedError: the label map holds labels that the dataset does not have.
    """
    own = {name: values[0] for name, values in predicted.names.items()}
    if predicted.background:
        own.pop(next(iter(own)))
    declared = {name.casefold(): value for name, value in names.values.items()}
    targets = {value: declared.get(name.casefold()) for name, value in own.items()}
    if len(targets) == len(names.values) == 1:
        targets = dict.fromkeys(targets, next(iter(names.values.values())))
    present = {int(value) for value in np.unique(label_map)}
    foreign = [name for name, value in own.items() if targets[value] is None and value in present]
    if foreign:
        raise RefusedError(f"the dataset has no labels {', '.join(foreign[:10])}, which the model predicts")
    schema = names.schema
    background = schema.output_values[0] if schema.background else 0
    return look_up(
        label_map, {value: targets.get(value) or background for value in present}, np.dtype(np.uint16)
    )


def _basis(final: LabelVersion) -> str:
    """Return the remark of drafts that were made from an accepted label."""
    return f"made from version {final.number}, {final.digest}"


def _focus(image: PageImage, label: Array | None, background: int) -> list[int]:
    """Return the voxel shown first: in the slices with most labels, or the middle (stacks: the start)."""
    shape = image.frame.page_shape
    if label is not None:
        inside = label != background
        if inside.any():
            counts = [inside.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
            return [int(np.argmax(count)) for count in counts]
    return [
        n // 2 if image.frame.is_patient else 0 if axis == 2 and n > 1 else n // 2
        for axis, n in enumerate(shape)
    ]
