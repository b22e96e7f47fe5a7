"""Khacef's data set from Zenodo: "Written and spoken digits database for multimodal learning".

DOI 10.5281/zenodo.4452953, version 2.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.files import LONGEST_JSON
from mmtune.data.dataset import Dataset, Progress
from mmtune.data.store import KHACEF_FILES, load, require_replaceable, save

DOI = "10.5281/zenodo.4452953"
RECORD = "4452953"
BASE_URL = "https://zenodo.org"
CHECKSUM = re.compile(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})")
TIMEOUT = (10, 60)  # seconds to connect, and between two packets
CHUNK = 1 << 16  # what a cut connection can cost


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of the record. checksum: algorithm:hex; size in bytes."""

    name: str
    url: str
    checksum: str
    size: int


def fetch(out: Path, base_url: str | None = None, on_progress: Progress | None = None) -> Dataset:
    """Download the set, check every file against the record, and save it to `out` in mmtune's form.

    What is downloaded waits in a hidden folder beside `out`, so that the same call goes on where the last one was
    cut; a set already fetched to `out` is only read. on_progress: called with (file, bytes done, bytes in all).
    Raises InputError, in one line, when the record or a file cannot be had whole.
    """
    out, base = Path(out).resolve(), (base_url or BASE_URL).rstrip("/")
    require_replaceable(out)
    if (out / "manifest.json").is_file() and (present := load(out)).provenance.get("doi") == DOI:
        return present
    partial = out.with_name(f".{out.name}.download")
    files = read_record(f"{base}/api/records/{RECORD}")
    require_space(partial, files)
    for file in files:
        download(file, partial, on_progress or (lambda what, done, total: None))
    provenance = {"source": "Zenodo", "doi": DOI, "record": RECORD, "files": {f.name: f.checksum for f in files}}
    saved = save(replace(load(partial), name="khacef", provenance=provenance), out)
    shutil.rmtree(partial, ignore_errors=True)
    return saved


def read_record(url: str) -> tuple[RemoteFile, ...]:
    """The six files that the record's JSON names."""
    import requests

    try:
        with requests.get(url, timeout=TIMEOUT, headers={"Accept": "application/json"}, stream=True) as answer:
            require_data(url, answer)
            record = json.loads(first_bytes(url, answer))
    except InputError:
        raise
    except requests.RequestException as error:
        raise InputError(f"{url}: the record cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{url}: the record must be JSON, got something else: {error}") from error
    try:
        remote = {file["key"]: to_remote(url, file) for file in record["files"] if file["key"] in KHACEF_FILES}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{url}: a file of the record must have key, size, checksum, links.self: {error!r}") from error
    missing = [name for name in KHACEF_FILES if name not in remote]
    if missing:
        raise InputError(f"{url}: the record must have {', '.join(KHACEF_FILES)}; missing {', '.join(missing)}")
    return tuple(remote[name] for name in KHACEF_FILES)


def first_bytes(url: str, answer: Any) -> bytes:
    """The body of an answer; InputError where it is longer than LONGEST_JSON."""
    body = b""
    for chunk in answer.iter_content(CHUNK):
        body += chunk
        if len(body) > LONGEST_JSON:
            raise InputError(f"{url}: the record must have at most {LONGEST_JSON:,} bytes, the server sends more")
    return body


def to_remote(url: str, file: dict[str, Any]) -> RemoteFile:
    checksum, link = str(file["checksum"]), str(file["links"]["self"])
    if not CHECKSUM.fullmatch(checksum):
        raise InputError(f"{url}: checksum of {file['key']} must be md5:... or sha256:..., got {checksum!r}")
    size = int(file["size"])
    if size < 1:
        raise InputError(f"{url}: size of {file['key']} must be 1 byte or more, got {size}")
    return RemoteFile(name=file["key"], url=link, checksum=checksum, size=size)


def require_data(url: str, answer: Any) -> None:
    """Raise InputError where a server answers with an error, or with a page for people."""
    if not answer.ok:
        raise InputError(f"{url}: the server must answer 200, got {answer.status_code} {answer.reason}")
    if "html" in answer.headers.get("Content-Type", "").lower():
        raise InputError(f"{url}: the server must send data, sent an HTML page")


def reason(error: Exception) -> str:
    """The innermost cause of a network error, in one line."""
    while isinstance(error.args[0] if error.args else None, Exception):
        error = error.args[0]
    cause = getattr(error, "reason", None)
    return " ".join(str(cause if isinstance(cause, Exception) else error).split())


def require_space(partial: Path, files: tuple[RemoteFile, ...]) -> None:
    """Make the folder of the download; InputError unless the disk holds what is missing, and the set made from it."""
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{partial}: the folder must be writable: {error.strerror}") from error
    here = sum(path.stat().st_size for path in partial.iterdir())
    total = sum(file.size for file in files)
    needed, free = max(total - here, 0) + total // 2, shutil.disk_usage(partial).free
    if free < needed:
        raise InputError(f"{partial}: needs {needed / 1e6:.0f} MB of disk, {free / 1e6:.0f} MB are free")


def download(file: RemoteFile, folder: Path, report: Progress) -> None:
    """Fetch a file into `folder` with pooch, unless it is there already and has its checksum."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")

    def resume(url: str, output_file: str, _: object) -> None:
        part = folder / f"{file.name}.part"
        continue_part(file, part, report)
        part.replace(output_file)

    try:
        pooch.retrieve(file.url, known_hash=file.checksum, fname=file.name, path=folder, downloader=resume)
    except requests.RequestException as error:
        raise InputError(f"{file.url}: the file cannot be read, call again to go on: {reason(error)}") from error
    except InputError:
        raise
    except ValueError as error:  # how pooch reports a wrong checksum
        raise InputError(f"{file.url}: checksum must be {file.checksum}, the file has another") from error
    except OSError as error:
        raise InputError(f"{folder / file.name}: the file could not be written: {error.strerror or error}") from error
    report(file.name, file.size, file.size)


def continue_part(file: RemoteFile, part: Path, report: Progress) -> None:
    """Append what is missing to `part`, or write it anew where the server sends no ranges."""
    import requests

    done = part.stat().st_size if part.exists() else 0
    if done > file.size:
        part.unlink()
        done = 0
    if done == file.size and done:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(file.url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
        require_data(file.url, answer)
        ranged = answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        resumed = answer.status_code == 206 and ranged
        done = append(answer, part, done if resumed else 0, file, report)
    if done != file.size:
        raise InputError(
            f"{file.url}: must be {file.size} bytes, the connection ended after {done}; call again to go on"
        )


def append(answer: Any, part: Path, start: int, file: RemoteFile, report: Progress) -> int:
    """Write an answer to `part` from byte `start` on; how many bytes there are then."""
    with part.open("r+b" if start else "wb") as out:
        out.seek(start)
        for chunk in answer.iter_content(CHUNK):
            out.write(chunk)
            report(file.name, out.tell(), file.size)
            if out.tell() > file.size:
                out.truncate(0)
                raise InputError(f"{file.url}: must be {file.size} bytes, the server sends more")
        return out.tell()
