"""What `mmtune best` has decided so far, so that the same command goes on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmtune.base.errors import InputError
from mmtune.base.files import make_folder, read_json, write_whole
from mmtune.best.pace import Pace
from mmtune.study.space import Value

FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class State:
    """What was decided, and how long it took.

    made: of what the study consists, as a hash. pace: what there was time for in `paced` seconds. spent: seconds that
    all calls have taken; origin: of these, when the last certificate was there. again: what is trained again, by name,
    its values by path; empty until the search has ended; longer: for how many epochs. certificate: where it is in the
    store, "" until it was written; version: of the registered model it is of; asked: the seconds that were asked for
    then.
    """

    made: str
    pace: Pace
    paced: float
    spent: float = 0.0
    origin: float = 0.0
    again: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    longer: int = 0
    certificate: str = ""
    version: str = ""
    asked: float = 0.0


def read_state(path: Path) -> State | None:
    """What a file holds, None where there is none; InputError where it is damaged."""
    if not path.is_file():
        return None
    told = read_json(path)
    try:
        if told.pop("format") != FORMAT:
            raise ValueError
        return State(**{**told, "pace": Pace(**told["pace"])})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} must hold what `mmtune best` decided, format {FORMAT}: delete it to begin anew"
        ) from error


def write_state(path: Path, state: State) -> None:
    """Write a file, whole or not at all."""
    make_folder(path.parent)
    write_whole(path, json.dumps({"format": FORMAT, **asdict(state)}, indent=1).encode())
