"""What a server has of the runs of a study: a line of JSON for each change, so that a kill forgets next to nothing.

Losing the file costs only time: every run is found again by its tag, and what is sent twice is there once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mmtune.base.files import append_whole, make_folder, write_whole


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a server has of a run.

    remote: the run's id there, "" before that is known; sent, files: fingerprints of the run and of its files as they
    were sent; rows, until: how many values of metrics, and the time of the last; settled: every request was answered.
    """

    run_id: str
    remote: str = ""
    sent: str = ""
    status: str = ""
    files: str = ""
    rows: int = 0
    until: int = 0
    settled: bool = False


class Receipts:
    """The last receipt of each run, and the file that has them; one process writes it."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        content = path.read_bytes() if path.exists() else b""
        self.last = {receipt.run_id: receipt for receipt in read_receipts(content.split(b"\n"))}
        self.written = dict(self.last)
        needed = b"".join(to_line(receipt) for receipt in self.last.values())
        if content != needed:
            write_whole(path, needed)
        # Unbuffered: what was written survives this process.
        self.file = path.open("ab", buffering=0)

    def of(self, run_id: str) -> Receipt:
        """What is known of a run."""
        return self.last.get(run_id, Receipt(run_id=run_id))

    def open(self, run_id: str) -> None:
        """Say, on disk, that something is asked for, before it is."""
        last = self.written.get(run_id)
        if last is None or last.settled:
            self.write(replace(self.of(run_id), settled=False))

    def keep(self, receipt: Receipt) -> None:
        """Know it until this process ends."""
        self.last[receipt.run_id] = receipt

    def write(self, receipt: Receipt) -> None:
        """Know it for good."""
        self.keep(receipt)
        if self.written.get(receipt.run_id) != receipt:
            append_whole(self.file, to_line(receipt))
            self.written[receipt.run_id] = receipt

    def forget(self) -> None:
        """Know nothing any more."""
        self.last.clear()
        self.written.clear()
        self.file.truncate(0)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def to_line(receipt: Receipt) -> bytes:
    """A receipt as a line of JSON."""
    return json.dumps(asdict(receipt), separators=(",", ":")).encode() + b"\n"


def read_receipts(lines: Iterable[bytes]) -> Iterable[Receipt]:
    """Those lines that are receipts: a kill leaves half a line, and a receipt that is lost is made again."""
    for line in lines:
        try:
            receipt = Receipt(**json.loads(line))
        except (ValueError, TypeError):
            continue
        if all(type(value) is type(getattr(Receipt, name, "")) for name, value in asdict(receipt).items()):
            yield receipt
