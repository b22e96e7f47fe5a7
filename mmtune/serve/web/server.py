"""A registered model over HTTP on loopback: MLflow's scoring server, and beside it answers to raw files.

`/invocations`, `/ping`, `/health` and `/version` are MLflow's own, with arrays by bank. `/predict` takes what a user
has, files in base64 and numbers, and says what `mmtune predict --json` says; `/` is a page to try that with. Nothing is
kept of what is sent.
"""

from __future__ import annotations

import base64
import binascii
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from mmtune.base.errors import InputError
from mmtune.data.forms import Form, Vector
from mmtune.serve.answer.looking import looked
from mmtune.serve.answer.nearest import TrainingRows
from mmtune.serve.answer.prediction import read_share
from mmtune.serve.answer.predictor import MODEL, Predictor
from mmtune.serve.answer.tally import one
from mmtune.serve.loader import know_network
from mmtune.serve.web.demo import page_routes
from mmtune.serve.web.ui import Guard, answer_on, is_foreign, names_of

MOST_BYTES = 64 * 2**20
"""Of a request; larger ones are refused before they are read."""
MOST_ROWS, MOST_TOP, MOST_LOOKED = 1_000, 100, 16
LONGEST_NAME = 100
"""Of a bank in a request, for a file of its name."""
ASKS = ("rows", "abstain_at", "coverage", "top", "look")


Record = Callable[[Mapping[str, NDArray[Any]]], dict[str, Any]]
Near = Callable[[Predictor], TrainingRows | None]
"""The training rows of a predictor, to be shown beside its answers, None where they are not at hand."""


def application(folder: Path, hosts: Iterable[str], near: Near | None = None) -> Any:
    """An ASGI application that answers for a registered model. folder: its predictor's; hosts: under which names.

    Raises InputError where a file of the model is missing, changed or of a network that is not known here.
    """
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import init

    know_network(folder / MODEL)
    predictor, alone = Predictor.load(folder), threading.Lock()
    trained = near(predictor) if near else None
    if trained:
        # It asks the model for seconds, while the page is there already.
        threading.Thread(target=trained.learn, daemon=True).start()

    async def predict(request: Request) -> JSONResponse:
        try:
            asked = read_json(await request.body())
            with tempfile.TemporaryDirectory() as own:
                return JSONResponse({"predictions": await run_in_threadpool(answered, asked, Path(own))})
        except InputError as error:
            return JSONResponse({"error_code": "BAD_REQUEST", "message": str(error)}, 400)

    def answered(asked: object, own: Path) -> list[dict[str, Any]]:
        # torch takes all cores for one request; two at once would only disturb each other.
        with alone:
            return answers(predictor, asked, own, trained)

    # Beside MLflow's and not within it, which gives up after a minute what goes on and holds the next one up.
    own = [Route("/predict", predict, methods=["POST"]), *page_routes(predictor)]
    return Bounded(Starlette(routes=[*own, Mount("/", init(load_model(str(folder.parents[1]))))]), hosts)


def read_json(body: bytes) -> object:
    """What a request says; InputError where it is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"a request must be JSON: {error}") from error


def answers(
    predictor: Predictor, asked: object, folder: Path, trained: TrainingRows | None = None
) -> list[dict[str, Any]]:
    """What a request is answered: a record for each row, or why a row is refused. folder: an empty one for its files.

    trained: rows to be shown beside what was looked at.
    Raises InputError where the request itself is none.
    """
    if not isinstance(asked, dict) or not set(asked) <= set(ASKS) or not isinstance(asked.get("rows"), list):
        raise InputError(f'a request must be {{"rows": [...]}} with, if wanted, {", ".join(ASKS[1:])}')
    rows, top, look = asked["rows"], asked.get("top", 3), asked.get("look", False)
    if not 0 < len(rows) <= MOST_ROWS:
        raise InputError(f"rows must be 1 to {MOST_ROWS:,}, got {len(rows):,}")
    if type(top) is not int or not 0 < top <= MOST_TOP:
        raise InputError(f"top must be a whole number from 1 to {MOST_TOP}, got {top!r:.80}")
    if type(look) is not bool:
        raise InputError(f"look must be true or false, got {look!r:.80}")
    if look and len(rows) > MOST_LOOKED:
        raise InputError(f"look is for at most {MOST_LOOKED} rows, got {len(rows):,}")
    error, coverage = (asked.get(name) for name in ("abstain_at", "coverage"))
    cautious = predictor.cautious(
        abstain_at=None if error is None else read_share("abstain_at", str(error)),
        coverage=predictor.caution.coverage if coverage is None else read_share("coverage", str(coverage)),
    )

    def record(values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        found = cautious.predict_values(**values)
        return one(found, top) | (looked(cautious, values, found, top, trained) if look else {})

    return [answer(cautious, row, record, folder) for row in rows]


def answer(predictor: Predictor, row: object, record: Record, folder: Path) -> dict[str, Any]:
    """The record of a row; {"refused": why} where it cannot be read."""
    try:
        if not isinstance(row, dict) or not row:
            raise InputError(f"a row must have a value by bank, got {row!r:.80}")
        values = predictor.values(**given(predictor.forms, row, folder))
        count = max(map(len, values.values()))
        if count != 1:
            raise InputError(f"a row must have one value of each bank, got {count}")
        return record(values)
    except InputError as error:
        # The name of a file that was written here says nothing to whoever sent it.
        return {"refused": str(error).replace(f"{folder}/", "")}


def given(forms: Mapping[str, Form], row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """By bank what is asked of a model: files that were sent in base64, numbers as they are.

    Never a path: whoever may ask is not to read this machine's files.
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(forms.get(name), Vector):
            found[name] = ",".join(map(str, value)) if isinstance(value, list) else value
            continue
        if not isinstance(value, str):
            found[name] = numbers(name, value)
            continue
        try:
            content = base64.b64decode(value.encode(), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"{name} must be a file in base64, it is not: {error}") from error
        known = name.isidentifier() and name.isascii() and len(name) <= LONGEST_NAME
        found[name] = folder / (name if known else "file")
        found[name].write_bytes(content)
    return found


def numbers(name: str, value: object) -> NDArray[Any]:
    """An array of numbers that was sent as lists."""
    with suppress(ValueError):
        array = np.asarray(value)
        if array.ndim and array.dtype.kind in "iuf":
            return array
    raise InputError(f"{name} must be a file in base64, or an array of numbers, got {value!r:.80}")


class Bounded:
    """An ASGI application in front of another: requests of at most MOST_BYTES, and of no page of others.

    hosts: the names under which it answers.
    """

    def __init__(self, app: Any, hosts: Iterable[str]) -> None:
        self.app, self.hosts = app, frozenset(hosts)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        headers = request.headers
        length = headers.get("content-length", "")
        if is_foreign(request, self.hosts):
            await PlainTextResponse("this server answers under its own address alone\n", 403)(scope, receive, send)
        elif headers.get("transfer-encoding") or (length and (not length.isdigit() or int(length) > MOST_BYTES)):
            told = f"a request must say its length, {MOST_BYTES:,} bytes at most\n"
            await PlainTextResponse(told, 413)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def serve_model(folder: Path, own: socket.socket, near: Near | None = None, token: str = "") -> None:
    """Answer on a bound socket until Ctrl-C; where there is a token, whoever shows it."""
    hosts = names_of(own)
    app = application(folder, hosts, near)
    app = Guard(app, hosts, token) if token else app
    with suppress(KeyboardInterrupt):
        answer_on(own, app)
