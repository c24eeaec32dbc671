"""``/activelearning/{strategy}``: the next image to label."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from medseg.data.io.readers import image_stem
from medseg.server.datastore.dicomweb import RemoteDatastore
from medseg.server.http.bodies import read_object
from medseg.server.routes.common import client_name, reply, state_of
from medseg.server.state import ServerState


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [Route("/activelearning/{strategy}", next_image, methods=["POST"])]


async def next_image(request: Request) -> Response:
    """Return the next image for a client; an empty object if none is left."""
    state = state_of(request)
    parameters = await read_object(request, state.options.limits)
    strategy, client = request.path_params["strategy"], client_name(request, parameters)
    image = await state.threads.run(state.strategies.next, strategy, client)
    return reply({} if image is None else await state.threads.run(describe_sample, state, image))


def describe_sample(state: ServerState, image: str) -> dict[str, Any]:
    """Describe an image so that a client can fetch it. No path: clients get the file by its id."""
    path = state.datastore.image_file(image)
    series = state.datastore.series(image) if isinstance(state.datastore, RemoteDatastore) else None
    uids = {} if series is None else {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.uid}
    return uids | {
        "id": image,
        "path": "",
        "name": f"{image}{path.name[len(image_stem(path)) :]}",
        "checksum": f"SHA256:{state.datastore.image_digest(image)}",
    }
