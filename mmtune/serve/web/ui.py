"""MLflow's UI on loopback, for whoever has the address that is printed.

Every user of a machine reaches its loopback, and so does every page in a browser, whose requests MLflow takes from any
port of localhost: so each start has a token, which the address carries and a cookie keeps.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import uuid
import warnings
import webbrowser
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from hmac import compare_digest
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from mmtune.base.errors import InputError
from mmtune.base.files import make_folder
from mmtune.base.templates import fingerprint
from mmtune.tracking import address

if TYPE_CHECKING:
    from mmtune.tracking import MlflowTracker, StudyRun

LOOPBACK = "127.0.0.1"
FOREIGN_SETTINGS = ("MLFLOW_", "_MLFLOW_", "FLASK_", "prometheus_")
"""How names begin of what in the environment could open what this closes."""
REFUSED = "refused: open the address that was printed, with its token\n"
ASSISTANT = "/ajax-api/3.0/mlflow/assistant"
OFF = "refused: MLflow's assistant, which has a shell on this machine, is off in `mmtune ui`\n"
SEEN = ("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "_mlflow_model_registry_promo_modal_dismissed_v1")
"""By what MLflow's pages know that a browser has seen what they open by themselves: a panel over the table of runs, and
a window over the models."""
ENTER = f"""for (const name of {list(SEEN)}) localStorage.setItem(name, "true");
location.replace(location.origin + location.pathname + location.hash);"""
"""What trades an address with its token for one without, as MLflow's own place in it is told by its hash."""


def bound(port: int) -> socket.socket:
    """A socket on loopback; InputError where the port is another's."""
    own = socket.socket()
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        own.bind((LOOPBACK, port))
        own.listen()
    except OSError as error:
        own.close()
        raise InputError(f"--port must be one that is free on {LOOPBACK}, got {port}: {error.strerror}") from error
    return own


def serve(tracker: MlflowTracker, own: socket.socket, say: Callable[[str], None], browse: bool) -> None:
    """Serve MLflow's UI on a bound socket until Ctrl-C; `say` is told the addresses, a browser opens if it is to.

    What it is set up with is in this process alone: neither a password nor the token is in anybody's arguments.
    """
    hosts, token = names_of(own), secrets.token_urlsafe(32)
    guard = Guard(mlflow_app(tracker, hosts), hosts, token, entrance)
    page = f"http://{hosts[0]}/?token={token}"
    say(f"MLflow UI: {page}  (Ctrl-C ends it)")
    studies = tracker.studies()
    for line in study_lines(studies, page):
        say(line)
    shown = [address(page, study.experiment_id, study.key) for study in studies[:1]]
    with suppress(KeyboardInterrupt), browsing(tracker, [*shown, page][0]) if browse else nullcontext():
        answer_on(own, guard)


def names_of(own: socket.socket) -> list[str]:
    """The names under which a socket on loopback is reached."""
    return [f"{name}:{own.getsockname()[1]}" for name in (LOOPBACK, "localhost")]


def answer_on(own: socket.socket, app: Any) -> None:
    """Let an ASGI application answer on a bound socket, without a word; KeyboardInterrupt where Ctrl-C has ended it."""
    import uvicorn

    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False}
    config = uvicorn.Config(app, ws="none", proxy_headers=False, timeout_graceful_shutdown=5, **quiet)
    uvicorn.Server(config).run(sockets=[own])


@contextmanager
def browsing(tracker: MlflowTracker, page: str) -> Iterator[None]:
    """Have a browser open a page, by way of a file that is this user's alone: arguments are everybody's to read."""
    with TemporaryDirectory(dir=make_folder(tracker.root / "cache")) as folder:
        way = Path(folder) / "ui.html"
        way.write_text(f'<meta http-equiv="refresh" content="0; url={escape(page)}">')
        # A browser without a window does not come back before it is closed.
        threading.Thread(target=webbrowser.open, args=[way.as_uri()], daemon=True).start()
        yield


def has_screen() -> bool:
    """Whether somebody sits before a terminal of a machine with a screen."""
    screen = sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return screen and sys.stdout.isatty()


def study_lines(studies: Sequence[StudyRun], page: str) -> list[str]:
    """Where the UI at `page` shows the trials of studies, of each name the first: table, charts."""
    last = {study.key.study: study for study in reversed(studies)}
    return [
        f"  {what} of {name}: {address(page, study.experiment_id, study.key, charts)}"
        for name, study in sorted(last.items())
        for what, charts in (("trials", False), ("charts", True))
    ]


def mlflow_app(tracker: MlflowTracker, hosts: Iterable[str]) -> Any:
    """MLflow's server on the tracker's store, as `mlflow server` sets it up, with no setting of the environment's."""
    uri, files = tracker.uri, tracker.root.resolve() / "artifacts"
    for name in [name for name in os.environ if name.startswith(FOREIGN_SETTINGS)]:
        del os.environ[name]
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": uri,
        "_MLFLOW_SERVER_REGISTRY_STORE": tracker.registry,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": files.as_uri(),
        "_MLFLOW_SERVER_BOOT_ID": uuid.uuid4().hex,
        "_MLFLOW_IN_JOB_EXECUTOR": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{host}" for host in hosts),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with warnings.catch_warnings():
        # Of MLflow to its developers.
        warnings.simplefilter("ignore")
        from mlflow.server.fastapi_app import app
    return app


def entrance(headers: Mapping[str, str]) -> Response:
    """A page that goes on to MLflow's, in a browser that has seen what would stand before them."""
    policy = f"default-src 'none'; script-src '{fingerprint(ENTER)}'; base-uri 'none'; frame-ancestors 'none'"
    page = f'<!doctype html><html lang="en"><title>MLflow</title><script>{ENTER}</script></html>'
    return HTMLResponse(page, headers={"Content-Security-Policy": policy, **headers})


def is_foreign(request: Request, hosts: Collection[str]) -> bool:
    """Whether a page of others asks, or under a name of others; to follow a link of theirs is no harm."""
    asked = request.headers
    host, site = asked.get("host", ""), asked.get("sec-fetch-site", "none")
    followed = request.method == "GET" and asked.get("sec-fetch-mode") == "navigate"
    own = site in ("none", "same-origin") or followed
    return not own or host not in hosts or asked.get("origin", f"http://{host}") != f"http://{host}"


class Guard:
    """An ASGI application in front of another, which lets through what shows the token and no page of others asks for.

    hosts: the names under which it answers. A token in an address is put into a cookie, and taken out of the address.
    entrance: what is answered then at the door, with these headers, if that does not just lead in.
    """

    def __init__(
        self,
        app: Any,
        hosts: Iterable[str],
        token: str,
        entrance: Callable[[Mapping[str, str]], Response] | None = None,
    ) -> None:
        self.app, self.hosts, self.token = app, frozenset(hosts), token.encode()
        self.entrance = entrance

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        request = Request(scope)
        # Cookies are sent to every port, so each has one of its own name.
        name = f"mmtune-{request.headers.get('host', '').rpartition(':')[2]}"
        given = request.query_params.get("token", "")
        no_store = {"Cache-Control": "no-store"}
        answer: Response = PlainTextResponse(REFUSED, 403, no_store)
        if not is_foreign(request, self.hosts):
            if request.method == "GET" and self.fits(given):
                kept = {"Set-Cookie": f"{name}={given}; HttpOnly; SameSite=Strict; Path=/", **no_store}
                where = f"/{quote(scope['path'].lstrip('/'))}"
                enter = self.entrance if where == "/" else None
                answer = enter(kept) if enter else RedirectResponse(where, 303, kept)
            elif self.fits(request.cookies.get(name, "")):
                answer = PlainTextResponse(OFF, 403, no_store) if ASSISTANT in scope["path"] else self.app
        await answer(scope, receive, send)

    def fits(self, token: str) -> bool:
        return compare_digest(token.encode(), self.token)
