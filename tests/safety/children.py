"""A call, or a whole command, in a child process with little memory, and what came of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from mmtune import cli
from mmtune.base.errors import InputError

MEBIBYTE = 2**20
# What a child may map beyond what its parent has, touch, and compute: without bounds a hostile file takes gigabytes.
# Work is counted in loops of a million turns, which take a slow machine longer, too.
MOST_MAPPED, MOST_TOUCHED, MOST_WORK = 1536 * MEBIBYTE, 300 * MEBIBYTE, 1000
HANGS_AFTER = 240
# What commands import when they run, and most of the time that they take.
OF_COMMANDS = (
    *("mmtune.data.building.build", "mmtune.data.figure", "mmtune.data.info", "mmtune.report.page"),
    *("mmtune.tune.machine", "mmtune.tune.run", "pydantic.type_adapter", "pydantic.functional_validators"),
)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a child did. code: its exit code, 0 where a call returned; said: standard error, or the refusal.

    touched: bytes of memory at its peak beyond those it began with. work: its CPU time, in loops.
    """

    code: int
    said: str
    printed: str
    touched: int
    work: float


def command(*words: object, folder: Path) -> Ran:
    """`mmtune` with these words, run in `folder`."""

    def run() -> None:
        os.chdir(folder)
        sys.argv = ["mmtune", *map(str, words)]
        cli.main()

    import_first()
    return call(run)


@cache
def import_first() -> None:
    """Import once, in the parent, what each command would import in its own process."""
    for name in OF_COMMANDS:
        import_module(name)


def call(function: Callable[[], Any]) -> Ran:
    """A function in a forked child; an InputError that it raises is its refusal, with exit code 2."""
    seconds_of_a_loop()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.write(writer, json.dumps(told(function)).encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123 - the pipe has no path
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    assert content, f"the child ended with {status}, that is by signal {os.WTERMSIG(status)}"
    return Ran(**json.loads(content))


def told(function: Callable[[], Any]) -> dict[str, Any]:
    """Run it within the bounds."""
    out, error = io.StringIO(), io.StringIO()
    before, begun = count_memory(), time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + MOST_MAPPED,) * 2)
    signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER)  # a child that waits for ever ends by this signal
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = code_of(function)
    touched, work = memory("VmHWM") - before, (time.process_time() - begun) / seconds_of_a_loop()
    said, printed = error.getvalue()[-20_000:], out.getvalue()[-20_000:]
    return {"code": code, "said": said, "printed": printed, "touched": touched, "work": work}


@cache
def seconds_of_a_loop() -> float:
    """CPU time of a million turns."""
    begun = time.process_time()
    for _ in range(1_000_000):
        pass
    return time.process_time() - begun


def code_of(function: Callable[[], Any]) -> int:
    """The exit code that the interpreter would end with."""
    try:
        function()
    except SystemExit as ended:
        return int(ended.code or 0)
    except InputError as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 2
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def count_memory() -> int:
    """Let the peak of memory begin here; the memory that there is, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def require_refusal(ran: Ran, *words: str, most: int = MOST_TOUCHED) -> None:
    """Exit code 2, one line of standard error with all words, and little memory and work."""
    assert ran.code == 2, (ran.code, ran.said)
    assert ran.said.count("\n") == 1, ran.said
    for word in words:
        assert word in ran.said, ran.said
    assert ran.touched < most, f"{ran.touched / MEBIBYTE:.0f} MiB"
    assert ran.work < MOST_WORK, f"{ran.work:.0f} loops of a million turns"


def names(folder: Path) -> Sequence[str]:
    """Every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
