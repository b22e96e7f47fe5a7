"""What a pool of workers elsewhere says, until it says what a test waits for."""

from __future__ import annotations

from checks import eventually

from mmtune.pool.worker import Event
from mmtune.pool.workers import Workers


def until(pool: Workers, kind: type, seconds: float = 120) -> tuple[Event, list[Event]]:
    """The first event of a kind within some seconds, and all that was said beside it."""
    seen: list[Event] = []

    def found() -> bool:
        seen.extend(pool.events(0.2))
        return any(isinstance(event, kind) for event in seen)

    assert eventually(found, seconds), seen
    return next(event for event in seen if isinstance(event, kind)), seen
