"""The address beside the pages at which the attention explorer asks for a whole head."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

ROUTE = "explorer"


def routes() -> "list[BaseRoute]":
    """One route, such as `/explorer/NAME/3/1`, where NAME is what `explorer.offered` returned."""
    from starlette.routing import Route

    return [Route(f"/{ROUTE}/{{name}}/{{what:path}}", answer, methods=["GET"])]


async def answer(request: "Request") -> "Response":
    """The triangle that is asked for, computed in a thread so that pages go on meanwhile."""
    from anyio import to_thread
    from starlette.responses import Response

    from workbench.ui.parts.explorer import triangle

    path = request.path_params
    body = await to_thread.run_sync(triangle, path["name"], path["what"])
    if body is None:
        return Response("There is no such head, or its page is closed; reload the page.", 404)
    return Response(
        body, media_type="application/octet-stream", headers={"Cache-Control": "no-store"}
    )
