"""One coordinator a study, also where several machines use one store: its sign of life is a tag of the study's run."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress

from mmtune.base.errors import AwayError, InputError
from mmtune.tracking.runs import StudyRun
from mmtune.tracking.tracker import MlflowTracker

TAG = "mmtune.alive"
BEAT_SECONDS, SILENCE_SECONDS, PAUSE_SECONDS = 5.0, 15.0, 1.0
"""How often a sign of life is given, for how long none may come before a coordinator counts as dead, and for how long
one waits between two looks."""


class TakenOverError(InputError):
    """Another coordinator writes the study now."""


class Heartbeat:
    """The right to write a study whose runs are in a store that others share; `place` is this folder's name there.

    In a folder's own store the lock of the folder is enough, and this does nothing.
    """

    def __init__(self, tracker: MlflowTracker, slug: str, note: str) -> None:
        self.tracker, self.slug = tracker, slug
        self.shared = not tracker.own
        # Whoever has the folder's lock knows that an earlier holder in it is dead.
        self.place = f"{note.partition(' on ')[2].partition(' ')[0]}:{tracker.root}".replace("|", "/")
        self.token, self.note = uuid.uuid4().hex, note
        self.parent, self.beats, self.due = "", 0, 0.0
        self.is_new = False

    def require_free(self, found: StudyRun | None) -> None:
        """Raise InputError where another coordinator shows signs of life, which takes a while to see."""
        self.is_new = found is None
        alive = "" if found is None or not self.shared else self._seen(found.run_id)
        if not alive or found is None or alive.split("|")[1] == self.place:
            return
        end = time.monotonic() + SILENCE_SECONDS
        while time.monotonic() < end:
            time.sleep(PAUSE_SECONDS)
            now = self._seen(found.run_id)
            if now and now != alive:
                raise InputError(
                    f"study {self.slug} already runs, and one coordinator at a time may write it: {now.split('|')[2]}"
                )

    def begin(self, parent: str) -> None:
        """Give the first sign of life; of several that begin at once one goes on."""
        if self.shared:
            self.parent = parent
            self._beat()
            time.sleep(PAUSE_SECONDS)
            self.confirm()
            if self.is_new:
                self._require_first()

    def beat(self) -> None:
        """Give a sign of life, if it is time. Raises InputError where another coordinator has taken over."""
        if self.shared and self.parent and time.monotonic() >= self.due:
            # Whether it has been away for too long is the recorder's to say.
            with suppress(AwayError):
                self.confirm()
                self._beat()
            self.due = time.monotonic() + BEAT_SECONDS

    def confirm(self) -> None:
        """Raise InputError where another coordinator has taken over."""
        alive = self._seen(self.parent)
        if alive and alive.split("|")[0].partition(" ")[0] != self.token:
            self.parent = ""
            raise TakenOverError(f"study {self.slug} was taken over: {alive.split('|')[2]}")

    def end(self) -> None:
        """Give no sign any more."""
        if self.parent:
            self.tracker.log(self.parent, tags={TAG: ""})
            self.parent = ""

    def _require_first(self) -> None:
        """Of several coordinators that began a new study at once, each with a run of its own, the first goes on."""
        begun = [study for study in self.tracker.studies() if study.key.slug == self.slug]
        first = min(begun, key=lambda study: (study.started, study.run_id))
        if first.run_id != self.parent:
            self.tracker.discard(self.parent)
            self.parent = ""
            raise TakenOverError(f"study {self.slug} was begun elsewhere at the same time, as run {first.run_id}")

    def _beat(self) -> None:
        self.beats += 1
        self.tracker.log(self.parent, tags={TAG: f"{self.token} {self.beats}|{self.place}|{self.note}"})

    def _seen(self, run_id: str) -> str:
        tag = self.tracker.tag(run_id, TAG)
        return tag if tag.count("|") == 2 else ""
