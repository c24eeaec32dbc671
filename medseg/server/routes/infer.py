"""``/infer/{model}``: results of models for viewers."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from medseg.data.labels.schema import smallest_integer
from medseg.data.scans import Scan
from medseg.geometry import Array
from medseg.prompts import Box, Point, Prompt
from medseg.server.datastore.incoming import check_image, declared_bytes, read_label_map, suffix_of
from medseg.server.errors import RefusedError
from medseg.server.http.bodies import Form, read_form, store_upload
from medseg.server.models import AutomaticModel, PromptModel, prompt_from_json
from medseg.server.models.replies import encode_label_map, encode_nrrd, multipart, volume_of
from medseg.server.models.viewer_order import from_viewer_position, to_viewer
from medseg.server.routes.common import bytes_reply, client_name, query, reply, state_of
from medseg.server.state import ServerState

_OUTPUTS = ("", "all", "image", "json")
_MOST_POINTS = 1000


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [Route("/infer/{model}", infer, methods=["POST"])]


@dataclass(frozen=True)
class InferRequest:
    """A request to segment an image.

    Attributes:
        model: name of the model.
        image: id of an image of the dataset; empty for an image that the client sent.
        session: id of an upload session; empty without one.
        output: ``image`` for the raw label map in a viewer's order of slices, ``json`` for the names only.
        client: name of the client.
        parameters: what the client sent in ``params``.
    """

    model: str
    image: str
    session: str
    output: str
    client: str
    parameters: dict[str, Any]

    @property
    def for_viewer(self) -> bool:
        """Whether slices ascend along row × column direction, as OHIF sorts them."""
        return self.output == "image"


@dataclass(frozen=True)
class InferResult:
    """A label map with the values that viewers get, and their names."""

    label_map: Array
    scan: Scan
    names: dict[str, int]


async def infer(request: Request) -> Response:
    """Segment an image of the dataset, of a session, or in the request."""
    state = state_of(request)
    async with read_form(request, state.options.limits) as form:
        parameters = form.parameters()
        asked = InferRequest(
            request.path_params["model"], query(request, "image", ""), query(request, "session_id", ""),
            query(request, "output", ""), client_name(request, parameters), parameters,
        )  # fmt: skip
        if asked.output not in _OUTPUTS:
            raise RefusedError(f"output is one of {', '.join(_OUTPUTS[1:])}")
        return await state.threads.run(_answer, state, asked, form)


def _answer(state: ServerState, asked: InferRequest, form: Form) -> Response:
    """Segment an image and encode the result."""
    began = time.perf_counter()
    folder = state.temporary / "requests"
    with ExitStack() as held:
        scan = _scan(state, asked, form, folder, held)
        first = _first_mask(form, scan, folder, held)
        result = run_model(state, asked, scan, first)
    if asked.image:
        state.note_proposal(asked.client, asked.image, state.models.get(asked.model))
    return _encode(asked, result, time.perf_counter() - began)


def _stored(sent: UploadFile, folder: Path, suffix: str, held: ExitStack) -> Path:
    """Store a client's file until the request is answered."""
    path = store_upload(sent, folder, suffix)
    held.callback(path.unlink, missing_ok=True)
    return path


def _scan(state: ServerState, asked: InferRequest, form: Form, folder: Path, held: ExitStack) -> Scan:
    """Return the image to segment."""
    if asked.session:
        return state.uploads.get(asked.session).scan
    sent = form.file("file")
    if sent is not None:
        path = _stored(sent, folder, suffix_of(sent.filename or "", image=True), held)
        held.enter_context(state.memory.reserve(declared_bytes([path])))
        return check_image(path)
    if not asked.image:
        raise RefusedError("expected an image, a session or a file")
    return state.datastore.scan(asked.image)


def _first_mask(form: Form, scan: Scan, folder: Path, held: ExitStack) -> Array | None:
    """Return the mask that a client wants to correct; None without one."""
    sent = form.file("label")
    if sent is None:
        return None
    return read_label_map(_stored(sent, folder, suffix_of(sent.filename or ""), held), scan) > 0


def run_model(state: ServerState, asked: InferRequest, scan: Scan, first: Array | None) -> InferResult:
    """Segment a scan with a model, which may need prompts."""
    model = state.models.get(asked.model)
    if isinstance(model, AutomaticModel):
        return automatic_result(model, scan)
    return _prompted_result(state, model, asked, scan, first)


def automatic_result(model: AutomaticModel, scan: Scan) -> InferResult:
    """Return the label map of a model; the names are those of the labels that it holds.

    3D Slicer gives the names, in the order of their values, to the values that it finds in the label map.
    """
    label_map = model.predict(scan).label_map
    values, served = model.labels, model.served_labels
    if served != values:
        table = {values[name]: served[name] for name in values}
        label_map = _mapped(label_map, table)
    present = set(np.unique(label_map).tolist())
    return InferResult(label_map, scan, {name: v for name, v in served.items() if v in present})


def _mapped(label_map: Array, table: dict[int, int]) -> Array:
    result = np.zeros(label_map.shape, smallest_integer((0, *table.values())))
    for value, served in table.items():
        result[label_map == value] = served
    return result


def _prompted_result(
    state: ServerState, model: PromptModel, asked: InferRequest, scan: Scan, first: Array | None
) -> InferResult:
    """Return the mask of an object that prompts show."""
    prompts, plane = read_prompts(asked, scan, model)
    if not prompts and first is None:
        raise RefusedError(
            "this model needs points: params.foreground and params.background, or params.prompts"
        )
    label = str(asked.parameters.get("label") or "object")
    key = (model.name, asked.image or asked.session, asked.client, label, str(plane))
    id = state.clicks.find(key) if asked.image or asked.session else None
    if id is None:
        id = state.clicks.open(model.name, scan, key=key, plane=plane)
    mask = state.clicks.set(id, prompts, first)
    if not (asked.image or asked.session):
        state.clicks.close(id)
    return InferResult(mask.astype(np.uint8), scan, {label: 1})


def read_prompts(
    asked: InferRequest, scan: Scan, model: PromptModel
) -> tuple[list[Prompt], tuple[int, int] | None]:
    """Return the prompts of a request, and the slice that they lie in for models of pictures on volumes."""
    parameters = asked.parameters
    if "prompts" in parameters:
        listed = parameters["prompts"]
        if not isinstance(listed, list) or len(listed) > _MOST_POINTS:
            raise RefusedError("params.prompts is a list of prompts")
        return [prompt_from_json(one) for one in listed], _plane(parameters.get("plane"), scan, model)
    points: list[Prompt] = []
    for name, positive in (("foreground", True), ("background", False)):
        points += [Point(position, positive) for position in _positions(parameters, name, asked, scan)]
    roi = parameters.get("roi")
    if isinstance(roi, list) and len(roi) == 6:
        points.append(_box(roi, asked, scan))
    if scan.kind != "volume" or scan.spatial_dims in model.spatial_dims:
        return points, None
    return _in_slice(points)


def _positions(
    parameters: dict[str, Any], name: str, asked: InferRequest, scan: Scan
) -> list[tuple[float, ...]]:
    listed = parameters.get(name) or []
    if not isinstance(listed, list) or len(listed) > _MOST_POINTS:
        raise RefusedError(f"params.{name} is a list of points")
    positions: list[tuple[float, ...]] = []
    for one in listed:
        numbers = isinstance(one, list) and len(one) in (2, 3) and all(_is_number(v) for v in one)
        if not numbers or (len(one) == 2 and scan.kind == "volume"):
            raise RefusedError(f"params.{name} is a list of points, each a list of numbers")
        positions.append(from_viewer_position(tuple(float(v) for v in one), scan, ascending=asked.for_viewer))
    return positions


def _box(roi: list[Any], asked: InferRequest, scan: Scan) -> Box:
    """Return the box of 3D Slicer's region of interest: x, x, y, y, z, z."""
    if not all(_is_number(value) for value in roi):
        raise RefusedError("params.roi has six numbers")
    corners = [
        from_viewer_position(
            tuple(float(roi[2 * axis + end]) for axis in range(3)), scan, ascending=asked.for_viewer
        )
        for end in (0, 1)
    ]
    shape = scan.grid.shape
    lower = np.clip(np.floor(np.min(corners, axis=0)), 0, np.array(shape) - 1).astype(int)
    upper = np.clip(np.ceil(np.max(corners, axis=0)) + 1, lower + 1, shape).astype(int)
    return Box(tuple(lower.tolist()), tuple(upper.tolist()))


def _in_slice(prompts: list[Prompt]) -> tuple[list[Prompt], tuple[int, int] | None]:
    """Return prompts as those of the slice that the last of them lies in."""
    points = [prompt for prompt in prompts if isinstance(prompt, Point)]
    if not points:
        raise RefusedError("this model segments slices; it needs points")
    index = round(points[-1].position[2])
    flat: list[Prompt] = [
        Point(point.position[:2], point.positive) for point in points if round(point.position[2]) == index
    ]
    return flat, (2, index)


def _plane(given: Any, scan: Scan, model: PromptModel) -> tuple[int, int] | None:
    if scan.spatial_dims in model.spatial_dims:
        return None
    if not isinstance(given, list) or len(given) != 2 or not all(isinstance(v, int) for v in given):
        raise RefusedError("this model segments slices; params.plane is [axis, index]")
    return given[0], given[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _encode(asked: InferRequest, result: InferResult, seconds: float) -> Response:
    """Encode a result as the client wants it."""
    parameters = {"label_names": result.names, "model": asked.model, "seconds": round(seconds, 3)}
    if asked.output == "json":
        return reply(parameters)
    if asked.output == "image":
        ordered = to_viewer(result.label_map, result.scan)
        _, affine = volume_of(result.label_map, result.scan)
        return bytes_reply(encode_nrrd(ordered, affine, compress=False), "application/octet-stream")
    suffix = str(asked.parameters.get("result_extension") or ".nrrd")
    compress = asked.parameters.get("result_compress") is not False
    content, suffix = encode_label_map(result.label_map, result.scan, suffix, compress=compress)
    body, kind = multipart(parameters, f"label{suffix}", content)
    return bytes_reply(body, kind)
