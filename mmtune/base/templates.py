"""Templates of pages: what they do not mark as safe is escaped, and a name that nobody gave is an error."""

from __future__ import annotations

import base64
import hashlib

import jinja2


def templates(*packages: str) -> jinja2.Environment:
    """The templates of packages, of two of one name the first."""
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages])
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["begins_large"] = begins_large
    return made


def begins_large(text: str) -> str:
    """Text at the beginning of a sentence; names in it keep their letters, which `capitalize` would make small."""
    return text[:1].upper() + text[1:]


def source_of(environment: jinja2.Environment, name: str) -> str:
    """A file beside the templates as it is."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def fingerprint(script: str) -> str:
    """By what a content security policy knows a script that may run, without its quotes."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
