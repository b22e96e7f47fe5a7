"""Khacef's data set from Zenodo: "Written and spoken digits database for multimodal learning".

DOI 10.5281/zenodo.4452953, version 2.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.files import LONGEST_JSON, make_folder
from mmtune.data.dataset import Dataset, Progress
from mmtune.data.storage.khacef import KHACEF_FILES, load_khacef
from mmtune.data.storage.store import MANIFEST, load, require_replaceable, save

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


def fetch(out: Path, base_url: str = BASE_URL, on_progress: Progress | None = None) -> Dataset:
    """Download the set, check every file against the record, and save it to `out` in mmtune's form.

    What is downloaded waits in a hidden folder beside `out`, so that the same call goes on where the last one was
    cut; a set already fetched to `out` is only read. on_progress: called with (file, bytes done, bytes in all).
    Raises InputError, in one line, when the record or a file cannot be had whole.
    """
    out = Path(out).resolve()
    require_replaceable(out)
    if (out / MANIFEST).is_file() and (present := load(out)).provenance.get("doi") == DOI:
        return present
    files = read_record(f"{base_url}/api/records/{RECORD}")
    partial = make_folder(out.with_name(f".{out.name}.download"))
    require_space(partial, files)
    for file in files:
        download(file, partial, on_progress or (lambda what, done, total: None))
    provenance = {"source": "Zenodo", "doi": DOI, "record": RECORD, "files": {f.name: f.checksum for f in files}}
    saved = save(replace(load_khacef(partial), name="khacef", provenance=provenance), out)
    shutil.rmtree(partial, ignore_errors=True)
    return saved


def read_record(url: str) -> tuple[RemoteFile, ...]:
    """The six files that the record's JSON names."""
    body = read_body(url)
    try:
        files = [file for file in json.loads(body)["files"] if file["key"] in KHACEF_FILES]
        remote = {file["key"]: to_remote(file) for file in files}
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        rule = "the record must be JSON, and each file must have key, size, checksum, links.self"
        raise InputError(f"{url}: {rule}: {error!r}") from error
    missing = [name for name in KHACEF_FILES if name not in remote]
    if missing:
        raise InputError(f"{url}: the record must have {', '.join(KHACEF_FILES)}; missing {', '.join(missing)}")
    return tuple(remote[name] for name in KHACEF_FILES)


def read_body(url: str) -> bytes:
    """What a server answers, LONGEST_JSON bytes at most."""
    import requests

    body = b""
    try:
        with requests.get(url, timeout=TIMEOUT, headers={"Accept": "application/json"}, stream=True) as answer:
            require_data(url, answer)
            for chunk in answer.iter_content(CHUNK):
                body += chunk
                if len(body) > LONGEST_JSON:
                    raise InputError(f"{url}: the record must have at most {LONGEST_JSON:,} bytes, it has more")
    except requests.RequestException as error:
        raise InputError(f"{url}: the record cannot be read: {reason(error)}") from error
    return body


def to_remote(file: dict[str, Any]) -> RemoteFile:
    checksum, size = str(file["checksum"]), int(file["size"])
    if not CHECKSUM.fullmatch(checksum) or size < 1:
        raise ValueError(f"must be md5:... or sha256:... of 1 byte or more, got {checksum!r} of {size}")
    return RemoteFile(name=file["key"], url=str(file["links"]["self"]), checksum=checksum, size=size)


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
    """Raise InputError unless the disk holds what is missing, and the set made from it."""
    here = sum(path.stat().st_size for path in partial.iterdir())
    total = sum(file.size for file in files)
    needed, free = max(total - here, 0) + total // 2, shutil.disk_usage(partial).free
    if free < needed:
        raise InputError(f"{partial}: needs {needed / 1e6:.0f} MB of disk, {free / 1e6:.0f} MB are free")


def download(file: RemoteFile, folder: Path, report: Progress) -> None:
    """Fetch a file into `folder`, from where the last call was cut; one with another checksum is removed."""
    import requests

    path = folder / file.name
    try:
        append_missing(file, path, report)
        algorithm = file.checksum.partition(":")[0]
        with path.open("rb") as content:
            found = hashlib.file_digest(content, algorithm).hexdigest()
        if f"{algorithm}:{found}" != file.checksum:
            path.unlink()
            raise InputError(f"{file.url}: checksum must be {file.checksum}, the file has another")
    except requests.RequestException as error:
        raise InputError(f"{file.url}: the file cannot be read, call again to go on: {reason(error)}") from error
    except OSError as error:
        raise InputError(f"{path}: the file could not be written: {error.strerror or error}") from error
    report(file.name, file.size, file.size)


def append_missing(file: RemoteFile, path: Path, report: Progress) -> None:
    """Append what is missing to `path`, or write it anew where it is too long or the server sends no ranges."""
    import requests

    there = path.stat().st_size if path.exists() else 0
    if there == file.size:
        return
    done = there if there < file.size else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(file.url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
        require_data(file.url, answer)
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            done = 0
        with path.open("ab" if done else "wb") as out:
            for chunk in answer.iter_content(CHUNK):
                out.write(chunk)
                done = out.tell()
                report(file.name, done, file.size)
                if done > file.size:
                    raise InputError(f"{file.url}: must be {file.size} bytes, the server sends more")
    if done != file.size:
        ended = f"the connection ended after {done}; call again to go on"
        raise InputError(f"{file.url}: must be {file.size} bytes, {ended}")
