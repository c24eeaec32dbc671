"""``/datastore/``: images and labels by id."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from medseg.data.io.readers import image_stem
from medseg.server.datastore import FINAL, Author, LabelVersion
from medseg.server.datastore.dicomweb import RemoteDatastore
from medseg.server.datastore.incoming import check_image, declared_bytes, read_label_map, suffix_of
from medseg.server.datastore.names import map_values
from medseg.server.errors import ConflictError, RefusedError, UnknownIdError
from medseg.server.http.bodies import read_form, store_upload
from medseg.server.routes.common import author_of, file_reply, number, query, reply, state_of
from medseg.server.state import ServerState


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [
        Route("/datastore/", listing, methods=["GET"]),
        Route("/datastore/", add_image, methods=["PUT"]),
        Route("/datastore/image", image, methods=["GET"]),
        Route("/datastore/image", add_image, methods=["PUT"]),
        Route("/datastore/image/info", image_info, methods=["GET"]),
        Route("/datastore/label", label, methods=["GET"]),
        Route("/datastore/label", save_label, methods=["PUT"]),
        Route("/datastore/label", remove_label, methods=["DELETE"]),
        Route("/datastore/label/info", label_info, methods=["GET"]),
        Route("/datastore/label/versions", label_versions, methods=["GET"]),
    ]


async def listing(request: Request) -> Response:
    """List the images and their labels (``output=all``), those with labels (``train``), or count them."""
    state, output = state_of(request), query(request, "output", "stats")
    if output not in ("all", "train", "stats"):
        raise RefusedError("output is all, train or stats")
    return reply(await state.threads.run(_listed, state, output))


def _listed(state: ServerState, output: str) -> Any:
    store = state.datastore
    if output == "stats":
        return store.status()
    if output == "train":
        return [{"image": id, "label": id} for id in store.labeled()]
    objects = {
        id: {
            "image": {"ext": "", "info": {}},
            "labels": {tag: {"ext": "", "info": _label_info(state, id, tag)} for tag in store.tags(id)},
        }
        for id in store.ids()
    }
    return {"name": "medseg", "description": "", "objects": objects}


async def image(request: Request) -> Response:
    """Return the file of an image."""
    state, id = state_of(request), query(request, "image")
    path = await state.threads.run(state.datastore.image_file, id)
    wanted = query(request, "check_sum", "").removeprefix("SHA256:")
    if wanted and wanted != await state.threads.run(state.datastore.image_digest, id):
        raise UnknownIdError("the image has another checksum")
    return file_reply(path, f"{id}{path.name[len(image_stem(path)) :]}")


async def image_info(request: Request) -> Response:
    """Describe an image: shape, spacing, kind, tags of its labels."""
    state, id = state_of(request), query(request, "image")
    return reply(await state.threads.run(describe_image, state, id))


def describe_image(state: ServerState, id: str) -> dict[str, Any]:
    """Describe an image and its labels."""
    scan = state.datastore.scan(id)
    return {
        "id": id, "kind": scan.kind, "shape": list(scan.grid.shape), "channels": len(scan.array),
        "spacing": list(scan.grid.spacing), "tags": state.datastore.tags(id),
    }  # fmt: skip


async def add_image(request: Request) -> Response:
    """Add an image that a client sends to the dataset."""
    state = state_of(request)
    async with read_form(request, state.options.limits) as form:
        sent = form.file("file")
        if sent is None:
            raise RefusedError("expected a file")
        name = (sent.filename or "").replace("\\", "/").rpartition("/")[2]
        suffix = suffix_of(name, image=True)
        id = query(request, "image", "") or name[: -len(suffix)]

        def add() -> str:
            path = store_upload(sent, state.temporary / "requests", suffix)
            try:
                with state.memory.reserve(declared_bytes([path])):
                    check_image(path)
                    return state.datastore.add_image(id, path)
            finally:
                path.unlink(missing_ok=True)

        return reply({"image": await state.threads.run(add)})


async def label(request: Request) -> Response:
    """Return the file of a label, with its digest as ETag."""
    state, (id, tag) = state_of(request), _label_of(request)
    wanted = number(query(request, "version", ""))

    def find() -> LabelVersion | None:
        if wanted is None:
            return state.datastore.label(id, tag)
        return next((v for v in state.datastore.versions(id, tag) if v.number == wanted), None)

    version = await state.threads.run(find)
    if version is None or version.path is None:
        raise UnknownIdError("there is no such label")
    path = version.path
    return file_reply(path, f"{id}{path.name[len(image_stem(path)) :]}", _version_headers(version))


async def save_label(request: Request) -> Response:
    """Save a label; with ``If-Match`` or ``If-None-Match: *`` only if no other client saved one meanwhile."""
    state, (id, tag) = state_of(request), _label_of(request)
    expected = await _expected(request, state, id, tag)
    async with read_form(request, state.options.limits) as form:
        sent, parameters = form.file("label"), form.parameters()
        if sent is None:
            raise RefusedError("expected a file in the field label")
        suffix, author = suffix_of(sent.filename or ""), author_of(request, id, parameters)

        def save() -> LabelVersion:
            scan = state.datastore.scan(id)
            path = store_upload(sent, state.temporary / "requests", suffix)
            try:
                return save_values(state, id, tag, read_label_map(path, scan), parameters, author, expected)
            finally:
                path.unlink(missing_ok=True)

        version = await state.threads.run(save)
    store = state.datastore
    is_sent = store.is_sent(id) if isinstance(store, RemoteDatastore) else None
    content = {"image": id, "label": id, "tag": tag, "version": version.number}
    return reply(content | ({} if is_sent is None else {"sent": is_sent}), 200, _version_headers(version))


def save_values(
    state: ServerState,
    id: str,
    tag: str,
    values: Any,
    parameters: dict[str, Any],
    author: Author,
    expected: str | None,
) -> LabelVersion:
    """Save a client's label map, whose values ``params.label_info`` may name."""
    present = {int(v) for v in _unique(values)} - {0}
    mapping = map_values(parameters.get("label_info"), present, state.datastore.names)
    if mapping is not None and any(key != value for key, value in mapping.items()):
        values = _relabeled(values, mapping)
    return state.datastore.save(id, values, author, tag=tag, if_match=expected)


async def remove_label(request: Request) -> Response:
    """Remove a label from the dataset; its versions are kept."""
    state, (id, tag) = state_of(request), _label_of(request)
    await state.threads.run(state.datastore.remove_label, id, author_of(request, id), tag)
    return reply({})


async def label_info(request: Request) -> Response:
    """Return who saved a label, when, and with which models."""
    state, (id, tag) = state_of(request), _label_of(request)
    return reply(await state.threads.run(_label_info, state, id, tag))


async def label_versions(request: Request) -> Response:
    """List the versions of a label, oldest first."""
    state, (id, tag) = state_of(request), _label_of(request)
    versions = await state.threads.run(state.datastore.versions, id, tag)
    return reply([dict(v.record) | {"version": v.number, "sha256": v.digest} for v in versions])


def _label_info(state: ServerState, id: str, tag: str) -> dict[str, Any]:
    version = state.datastore.label(id, tag)
    if version is None:
        raise UnknownIdError("there is no such label")
    names = state.datastore.labels()
    return dict(version.record) | {"version": version.number, "params": {"label_names": names}}


def _label_of(request: Request) -> tuple[str, str]:
    """Return the image and the tag of a label; clients call the image ``image``, ``label`` or ``id``."""
    for name in ("image", "label", "id"):
        if name in request.query_params:
            return query(request, name), query(request, "tag", "") or FINAL
    raise RefusedError("the parameter image is missing")


async def _expected(request: Request, state: ServerState, id: str, tag: str) -> str | None:
    """Return the digest that the newest version must have, by the request's conditions."""
    if request.headers.get("if-none-match", "").strip() == "*":
        return ""
    wanted = request.headers.get("if-match", "").strip()
    if not wanted:
        return None
    newest = await state.threads.run(state.datastore.label, id, tag)
    if wanted == "*":
        if newest is None:
            raise ConflictError("there is no label yet")
        return newest.digest
    return wanted.removeprefix("W/").strip('"') or ""


def _version_headers(version: LabelVersion) -> dict[str, str]:
    return {"etag": f'"{version.digest}"', "x-label-version": str(version.number)}


def _unique(values: Any) -> Any:
    import numpy as np

    return np.unique(values)


def _relabeled(values: Any, mapping: Any) -> Any:
    import numpy as np

    result = np.zeros(values.shape, np.int64)
    for key, value in mapping.items():
        result[values == key] = value
    return result
