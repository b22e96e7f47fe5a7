"""A page to play with: what a model reads is drawn, spoken or typed, and answered by `/predict` as it comes."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mmtune.base.templates import source_of, templates
from mmtune.data.forms import Form, Sound, Vector
from mmtune.serve.answer.nearest import MOST
from mmtune.serve.answer.predictor import Predictor

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "media-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}
ACCEPTS = {"picture": "image/*", "recording": "audio/*", "array": ".npy"}
DRAWN = 336
"""Pixels of the longer side of what is drawn on."""


def page_routes(predictor: Predictor) -> list[Route]:
    """The routes of a model's page, `/`, and of what it loads."""
    environment = templates("mmtune.serve.web")
    page = environment.get_template("demo.html").render(told(predictor))
    style, script = (source_of(environment, f"demo.{own}") for own in ("css", "js"))
    return [
        fixed("/", page, "text/html"),
        fixed("/demo.css", style, "text/css"),
        fixed("/demo.js", script, "text/javascript"),
    ]


def fixed(path: str, text: str, kind: str) -> Route:
    """A route that always answers with the same text."""

    async def answer(request: Request) -> Response:
        return Response(text, media_type=kind, headers=HEADERS)

    return Route(path, answer)


def told(predictor: Predictor) -> dict[str, Any]:
    """What the page says of a model: its study, its classes, which banks answer alone, and by bank how it is given.

    compared: of how many training rows the nearest are shown.
    """
    key = str(predictor.card.get("study_key", ""))
    return {
        "name": key.partition(".")[0] or "a model",
        "key": key,
        "classes": list(predictor.classes),
        "compared": MOST,
        "alone": [bank for bank in predictor.forms if bank in predictor.calibration.alone],
        "banks": {bank: facts(form) for bank, form in predictor.forms.items()},
    }


def facts(form: Form) -> dict[str, Any]:
    """How a bank is given: from what source, which files a browser is to offer, and in words what becomes of it."""
    sides = " × ".join(map(str, form.shape))
    found: dict[str, Any] = {"source": form.source, "accept": ACCEPTS.get(form.source, ""), "words": sides}
    if isinstance(form, Vector):
        return found | {"columns": list(form.columns), "words": f"{len(form.columns)} numbers"}
    if isinstance(form, Sound):
        return found | {"seconds": form.seconds, "words": f"{form.kind}, {form.seconds:g} s"}
    if form.source == "picture":
        height, width = form.shape[-2:]
        longest = max(height, width)
        return found | {"width": DRAWN * width // longest or 1, "height": DRAWN * height // longest or 1}
    return found
