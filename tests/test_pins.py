"""Every package that an installation brings along is pinned at the version that is installed, so that an audit of the
pins is an audit of the installation."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
# A build of torch for GPUs names the exact version of each of these itself.
OF_TORCH = ("nvidia-", "cuda-", "triton")


def pins() -> dict[str, Version]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    found = [line.split("==") for line in lines if line]
    return {canonicalize_name(name): Version(version) for name, version in found}


def asked_for() -> list[Requirement]:
    """What pyproject.toml names, with all its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    named = [Requirement(text) for own in lists for text in own]
    return [requirement for requirement in named if requirement.name != project["name"]]


def brought(requirements: Iterable[Requirement]) -> Iterator[tuple[str, Version]]:
    """The packages that requirements bring along, with the version that is installed."""
    waiting, seen = [(requirement, "") for requirement in requirements], set[tuple[str, str]]()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # of an extra that is not installed here
        yield name, Version(found.version)
        for own in {"", *requirement.extras}:
            if (name, own) not in seen:
                seen.add((name, own))
                waiting += [(Requirement(text), own) for text in found.requires or ()]


def test_every_package_of_an_installation_is_pinned_as_it_is_installed() -> None:
    pinned = pins()
    found = {name: version for name, version in brought(asked_for()) if not name.startswith(OF_TORCH)}
    assert {"mlflow-skinny", "sqlalchemy", "starlette", "torch", "pytest", "ruff"} <= set(found)
    assert {name: str(version) for name, version in found.items() if name not in pinned} == {}
    assert {n: version.public for n, version in found.items()} == {n: pinned[n].public for n in found}


def test_what_is_pinned_and_installed_is_needed_by_something() -> None:
    installed = {name for name, _ in brought(asked_for())} | {"pip"}  # which installs them
    absent = {name for name in pins() if name not in installed}
    assert {name for name in absent if is_installed(name)} == set()


def is_installed(name: str) -> bool:
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False
