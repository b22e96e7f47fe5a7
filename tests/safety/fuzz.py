"""Coverage-guided fuzzing of every file reader in turn: `python tests/safety/fuzz.py --minutes 5 --readers wav flac`.

libFuzzer, by way of atheris, changes the valid file of a reader, guided by the code that each change reaches: mmtune's
own, and the Python of numpy, zipfile, gzip, json, Pillow, soundfile and safetensors below it. What is neither an answer
nor one line of refusal is a finding, and so is a file that takes 10 s or much memory. Each reader has a process of its
own. Prints how many files were read; exits with 1 where there was a finding, which then lies in the folder that is
named.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import atheris

UNDER_TEST = ("mmtune", "numpy.lib", "zipfile", "gzip", "json", "PIL", "soundfile", "safetensors")
# atheris keeps what a comparison of arrays gives, and a picture's is large; Pillow is seen all the same.
UNSEEN = ("mmtune.data.media.pictures",)
warnings.simplefilter("ignore")
# It names every module on standard error.
with redirect_stderr(StringIO()), atheris.instrument_imports(include=list(UNDER_TEST), exclude=list(UNSEEN)):
    import torch
    from children import MEBIBYTE, count_memory, memory
    from valid import READERS
    from valid_data import Reader

    from mmtune.base.errors import LONGEST, InputError

FILE_SECONDS, MOST_MIB, TOUCHED_MIB, LONGEST_FILE = 10, 3072, 400, 65_536
MEMORY = Path("/dev/shm")
WORDS = (
    *("descr", "fortran_order", "shape", "<f8", "|u1", "<U4", "|O", "True", "(1, 784)", "[", "{", "1e999", "NaN"),
    *("PK\\x01\\x02", "PK\\x03\\x04", "PK\\x05\\x06", "\\x93NUMPY", "IHDR", "IDAT", "zTXt", "acTL", "iCCP", "eXIf"),
    *("\\xff\\xda", "\\xff\\xe1", "RIFF", "RF64", "WAVE", "fmt ", "data", "LIST", "fact", "fLaC", "F32", "dtype"),
    *("data_offsets", "__metadata__", "\\xff\\xff\\xff\\xff", "\\x00\\x00\\x00\\x80"),
)


@dataclass(frozen=True, kw_only=True)
class Fuzzed:
    """What came of a reader. grown: MiB of memory beyond those after the first file; finding: what went wrong."""

    files: int
    grown: int
    finding: str


def main() -> int:
    """Fuzz all readers; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="of all readers together")
    parser.add_argument("--readers", nargs="*", default=[*READERS], choices=[*READERS], help="all if not given")
    given = parser.parse_args()
    torch.set_num_threads(1)
    seconds = max(1, round(60 * given.minutes / len(given.readers)))
    kept = Path(tempfile.mkdtemp(prefix="mmtune-fuzz-"))
    found = {name: fuzz(name, seconds, kept / name) for name in given.readers}
    findings = {name: own.finding for name, own in found.items() if own.finding}
    print(f"{sum(own.files for own in found.values()):,} files, {seconds} s a reader, {len(findings)} findings")
    for name, finding in findings.items():
        print(f"{name}: {finding}; see {kept / name}")
    return 1 if findings else 0


def fuzz(name: str, seconds: int, kept: Path) -> Fuzzed:
    """A reader in a forked process, which need not import everything again."""
    kept.mkdir()
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        child = os.fork()
        if child == 0:
            try:
                with (kept / "log").open("wb") as log:
                    os.dup2(log.fileno(), 1)
                    os.dup2(log.fileno(), 2)
                run(READERS[name], flags(seconds, kept), Path(folder), kept / "corpus")
            finally:
                os._exit(1)  # libFuzzer ends the process itself
        code = wait(child, seconds + 10 * FILE_SECONDS)
    found = result(code, (kept / "log").read_text(errors="replace"))
    print(f"{name:<10} {found.files:>9,} files  +{found.grown} MiB  {found.finding or 'ok'}", flush=True)
    return found


def flags(seconds: int, kept: Path) -> list[str]:
    """libFuzzer's options."""
    (kept / "words").write_text("".join(f'"{word}"\n' for word in WORDS))
    limits = {
        "max_total_time": seconds,
        "timeout": FILE_SECONDS,
        "rss_limit_mb": MOST_MIB,
        "max_len": LONGEST_FILE,
        "print_final_stats": 1,
        "artifact_prefix": kept / "finding-",
        "dict": kept / "words",
    }
    return [f"-{flag}={value}" for flag, value in limits.items()]


def run(reader: Reader, options: Sequence[str], folder: Path, corpus: Path) -> None:
    """Fuzz until a finding, or until libFuzzer's limits end it; the valid file begins the corpus."""
    reader.make(folder)
    corpus.mkdir()
    (corpus / "valid").write_bytes((folder / reader.file).read_bytes())

    def once(content: bytes) -> None:
        (folder / reader.file).write_bytes(content)
        before = count_memory()
        try:
            reader.mend(folder)
            reader.read(folder)
        except InputError as refusal:
            line = str(refusal)
            assert line.isprintable(), line
            assert len(line) <= 10 * LONGEST, line
        touched = (memory("VmHWM") - before) // MEBIBYTE
        assert touched <= TOUCHED_MIB, f"{touched} MiB for one file"

    atheris.Setup(["fuzz", *options, str(corpus)], once)
    atheris.Fuzz()


def wait(child: int, seconds: float) -> int:
    """The exit code of a process, which is killed where it takes longer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.2)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def result(code: int, log: str) -> Fuzzed:
    """libFuzzer's own words read back."""
    files = re.search(r"stat::number_of_executed_units:\s*(\d+)", log)
    first = re.search(r"INITED.*rss: (\d+)Mb", log)
    peak = re.search(r"stat::peak_rss_mb:\s*(\d+)", log)
    grown = int(peak[1]) - int(first[1]) if first and peak else 0
    finding = ""
    if code or not files:
        lines = [line for line in log.splitlines() if "ERROR" in line or re.match(r"[\w.]+(Error|Exception)\b", line)]
        finding = " | ".join(lines[:3]) or f"exit code {code}"
    elif grown > TOUCHED_MIB:
        finding = f"memory grew by {grown} MiB"
    return Fuzzed(files=int(files[1]) if files else 0, grown=grown, finding=finding)


if __name__ == "__main__":
    sys.exit(main())
