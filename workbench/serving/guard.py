"""Access control: a key if one is set; without keys, only requests addressed to this machine."""

import ipaddress
import secrets
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from workbench.serving.keys import Keys
from workbench.serving.limits import ApiError

COOKIE = "workbench_session"
LOGIN = "/login"
API = ("/v1", "/workbench", "/metrics")
FORM = (
    "<!doctype html><meta charset=utf-8><title>Workbench</title>"
    "<form method=post action=/login style='font:16px sans-serif;margin:20vh auto;width:20rem'>"
    "<p>This workbench asks for a key.</p>"
    "<input type=password name=key autofocus autocomplete=current-password> "
    "<button>Enter</button></form>"
)


def is_local(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """ASGI middleware that guards another app, for HTTP and WebSocket.

    With keys, the API takes `Authorization: Bearer KEY`, and pages a session opened with a key.
    Without keys, the API takes only requests whose Host names this machine, so that no web page can
    reach it under another name (DNS rebinding).

    Args:
        app: The app to guard.
        keys: The valid keys; none leaves it open on this machine.
    """

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self.keys = keys
        self._sessions: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with a refusal."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = await self._refusal(scope, receive)
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, send)

    async def _refusal(self, scope: Scope, receive: Receive) -> Response | None:
        """The answer to a request that may not pass, or None."""
        path = scope["path"]
        is_api = any(path == at or path.startswith(f"{at}/") for at in API)
        headers = {
            name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]
        }
        if not self.keys:
            if is_api and not is_local(_name_of(headers.get("host", ""))):
                return ApiError(
                    403, "This service answers under the names of this machine only."
                ).response()
            return None
        if path == "/health":
            return None
        if scope["type"] == "http" and path == LOGIN and scope["method"] == "POST":
            return await self._login(Request(scope, receive))
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.keys.open(key.strip()):
            return None
        cookies = dict(
            part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";")
        )
        if not is_api and cookies.get(COOKIE) in self._sessions:
            return None
        if is_api:
            return ApiError(
                401, "A key is needed: Authorization: Bearer KEY.", code="invalid_api_key"
            ).response()
        return HTMLResponse(FORM, 401)

    async def _login(self, request: Request) -> Response:
        """A session cookie for a valid key, else the form again."""
        raw = bytearray()
        async for piece in request.stream():
            raw += piece
            if len(raw) > 1000:
                return HTMLResponse(FORM, 401)
        key = parse_qs(raw.decode("latin1")).get("key", [""])[0]
        if not self.keys.open(key):
            return HTMLResponse(FORM, 401)
        session = secrets.token_urlsafe(32)
        self._sessions.add(session)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE, session, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return response


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    return host[1 : host.find("]")] if host.startswith("[") else host.rpartition(":")[0] or host
