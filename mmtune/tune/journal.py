"""Optuna's journal file, so that neither a kill nor a full disk leaves half a line in it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation

from mmtune.base.files import append_whole

# What Optuna notes of a trial before it has ended.
UNDER_WAY = {
    JournalOperation.CREATE_TRIAL,
    JournalOperation.SET_TRIAL_PARAM,
    JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE,
    JournalOperation.SET_TRIAL_USER_ATTR,
    JournalOperation.SET_TRIAL_SYSTEM_ATTR,
}


def repair_journal(path: Path) -> int:
    """Cut what a kill or a power cut may have left at the end: half a line, or lines that say nothing to Optuna.

    Returns the number of bytes cut. Nothing is lost by it, as the tracked runs say how every trial ended. Optuna loads
    past a torn line once, and appends to it; the study is lost from then on.
    """
    # A lock that is left behind can only be a dead process's: ours is held on the whole study.
    with suppress(FileNotFoundError):
        Path(f"{path}.lock").unlink()
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    while whole and not is_operation(content[content.rfind(b"\n", 0, whole - 1) + 1 : whole]):
        whole = content.rfind(b"\n", 0, whole - 1) + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    return len(content) - whole


def is_operation(line: bytes) -> bool:
    """Whether a line of a journal is one of Optuna's operations."""
    try:
        return "op_code" in json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return False


class Journal(JournalFileBackend):
    """The journal file of a study whose lock its one writer holds, so that no write needs a lock of its own.

    Writing waits for the disk where a trial ends: a power cut may cost the begin of the trials under way, whose runs
    are ended as interrupted on resume, and no more.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self.path.open("ab", buffering=0) as file:
            append_whole(file, lines.encode())
            if any(log["op_code"] not in UNDER_WAY for log in logs):
                os.fsync(file.fileno())
