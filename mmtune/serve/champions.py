"""Who was champion when: a log of events, replayed. Knows no MLflow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mmtune.base.clock import now
from mmtune.base.errors import InputError

CHAMPION = "champion"
PROMOTED, FORCED, ROLLED_BACK, FOUND = "promoted", "forced", "rolled back", "found"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A version became champion at a time (ISO 8601, UTC).

    how: "promoted"; "forced" against the gate; "rolled back" to; or "found" to be champion with no event that
    says so, as after a kill between alias and log or a change by hand.
    """

    version: str
    at: str
    how: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Event:
        """The inverse of `to_json`; InputError where the text, a tag that anybody may edit, is none of ours."""
        try:
            fields = json.loads(text)
            made = Event(**fields)
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"a tag of a champion must be an event in JSON, got {text[:200]!r}") from error
        if not all(isinstance(value, str) for value in fields.values()):
            raise InputError(f"a tag of a champion must be an event of texts, got {text[:200]!r}")
        return made


def line_of(events: Sequence[Event]) -> list[str]:
    """The line of champions that still counts, the reigning one last; a rollback takes off what came after."""
    line: list[str] = []
    for event in events:
        if event.how == ROLLED_BACK and event.version in line:
            while line[-1] != event.version:
                line.pop()
        elif line[-1:] != [event.version]:
            line.append(event.version)
    return line


def missing_event(events: Sequence[Event], champion: str | None) -> Event | None:
    """The event that the log lacks for `champion` to reign: the alias is the truth, the log follows it."""
    line = line_of(events)
    if champion is None or line[-1:] == [champion]:
        return None
    how = ROLLED_BACK if line[-2:-1] == [champion] else FOUND
    return Event(version=champion, at=now(), how=how)


def reigns(events: Sequence[Event], version: str) -> list[tuple[str, str | None]]:
    """When `version` was champion: (from, to) of each reign; `to` is None while it lasts."""
    ends = [*(event.at for event in events[1:]), None]
    return [(event.at, end) for event, end in zip(events, ends, strict=True) if event.version == version]
