"""Fetching, from a real server on this machine that plays the record and every way in which it can fail."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtune.base.errors import InputError
from mmtune.data.storage.khacef import KHACEF_FILES
from mmtune.data.storage.store import load
from mmtune.data.storage.zenodo import CHUNK, DOI, fetch

HTML = b"<!doctype html><html><body>Down for maintenance</body></html>"


def khacef_bytes() -> dict[str, bytes]:
    """The six files as Khacef published them: float64, clips repeated; large enough to be cut anywhere."""
    rng = np.random.default_rng(0)
    files = {}
    for part, rows, clips in (("train", 120, 70), ("test", 40, 20)):
        labels = np.arange(rows) % 10
        arrays = {
            "data_wr": rng.integers(0, 256, (rows, 784)) / 255.0,
            "data_sp": rng.random((clips, 507))[np.arange(rows) % clips],
            "labels": labels.astype(np.float64),
        }
        for kind, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            files[f"{kind}_{part}.npy"] = buffer.getvalue()
    return files


FILES = khacef_bytes()


@dataclass
class Zenodo:
    """What the server shall do, and what was asked of it.

    cut: after how many bytes the connection is cut, once for each file named; ranges: whether it can resume.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    record: dict[str, Any] = field(default_factory=dict)
    html: set[str] = field(default_factory=set)
    status: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer_record(self) -> dict[str, Any]:
        listed = [
            {
                "key": name,
                "size": len(data),
                "checksum": f"md5:{hashlib.md5(data).hexdigest()}",
                "links": {"self": f"{self.url}/api/records/4452953/files/{name}/content"},
            }
            for name, data in FILES.items()
        ]
        return {"id": 4452953, "files": [*listed, listed[0] | {"key": "README.md"}]} | self.record


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    zenodo: Zenodo

    def do_GET(self) -> None:
        zenodo = self.zenodo
        name = self.path.split("/")[-2] if self.path.endswith("/content") else "record"
        zenodo.asked.append((name, self.headers.get("Range")))
        if name in zenodo.html:
            self.reply(200, HTML, "text/html; charset=utf-8")
        elif name in zenodo.status:
            self.reply(zenodo.status[name], HTML, "text/html")
        elif name == "record":
            self.reply(200, json.dumps(zenodo.answer_record()).encode(), "application/json")
        else:
            self.reply_file(name)

    def reply(
        self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None, limit: int = -1
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body if limit < 0 else body[:limit])
        if limit >= 0:
            self.close_connection = True

    def reply_file(self, name: str) -> None:
        data, asked = self.zenodo.files[name], self.headers.get("Range")
        limit = self.zenodo.cut.pop(name, -1)
        if not asked or not self.zenodo.ranges:
            return self.reply(200, data, "application/octet-stream", limit=limit)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        where = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        return self.reply(206, data[start:], "application/octet-stream", where, limit)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def zenodo() -> Iterator[Zenodo]:
    made = Zenodo()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Playing", (Handler,), {"zenodo": made}))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def refused(zenodo: Zenodo, out: Path, *said: str) -> None:
    """Fetching must fail with one line, and leave nothing at `out`."""
    with pytest.raises(InputError) as caught:
        fetch(out, zenodo.url)
    line = str(caught.value)
    assert "\n" not in line
    for part in said:
        assert part in line
    assert not out.exists()


def test_the_whole_set_arrives_in_our_form(zenodo: Zenodo, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    made = fetch(tmp_path / "khacef", zenodo.url, lambda *step: told.append(step))
    loaded = load(tmp_path / "khacef")
    assert loaded.digest == made.digest
    assert (loaded.name, loaded.provenance["doi"]) == ("khacef", DOI)
    seen, heard = loaded.train.banks["image"], loaded.train.banks["audio"]
    assert (len(loaded.train), len(heard.values), len(loaded.require_test().banks["audio"].values)) == (120, 70, 20)
    images = np.load(io.BytesIO(FILES["data_wr_train.npy"]))
    assert np.array_equal(seen.of_rows(np.arange(120)).reshape(-1, 784), np.rint(images * 255))
    audio = np.load(io.BytesIO(FILES["data_sp_train.npy"])).astype(np.float32)
    assert np.array_equal(heard.of_rows(np.arange(120)).reshape(-1, 507), audio)
    assert {name for name, done, total in told if done == total} == set(KHACEF_FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["khacef"]


def test_what_is_there_is_not_fetched_again(zenodo: Zenodo, tmp_path: Path) -> None:
    first = fetch(tmp_path / "khacef", zenodo.url)
    zenodo.asked.clear()
    assert fetch(tmp_path / "khacef", zenodo.url).digest == first.digest
    assert zenodo.asked == []


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("after", [0, 1, 300_001])
def test_a_cut_connection_is_refused_then_resumed(zenodo: Zenodo, tmp_path: Path, ranges: bool, after: int) -> None:
    zenodo.ranges = ranges
    zenodo.cut = {"data_wr_train.npy": after}
    refused(zenodo, tmp_path / "khacef", "data_wr_train.npy", "call again to go on")
    before = [name for name, _ in zenodo.asked]
    zenodo.asked.clear()
    fetch(tmp_path / "khacef", zenodo.url)
    again = dict(zenodo.asked)
    finished = before[: before.index("data_wr_train.npy")]
    assert set(again) & set(finished) <= {"record"}
    kept = after - after % CHUNK
    assert again["data_wr_train.npy"] == (f"bytes={kept}-" if kept else None)
    assert load(tmp_path / "khacef").train.banks["image"].values.any()
    assert [path.name for path in tmp_path.iterdir()] == ["khacef"]


def test_a_wrong_checksum_is_refused_and_fetched_anew(zenodo: Zenodo, tmp_path: Path) -> None:
    good = zenodo.files["data_sp_test.npy"]
    zenodo.files["data_sp_test.npy"] = good[:-1] + bytes([good[-1] ^ 1])
    refused(zenodo, tmp_path / "khacef", "data_sp_test.npy", "checksum must be md5:")
    zenodo.files["data_sp_test.npy"] = good
    zenodo.asked.clear()
    fetch(tmp_path / "khacef", zenodo.url)
    assert ("data_sp_test.npy", None) in zenodo.asked


@pytest.mark.parametrize("name", ["record", "labels_train.npy"])
def test_an_html_page_is_refused(zenodo: Zenodo, tmp_path: Path, name: str) -> None:
    zenodo.html = {name}
    refused(zenodo, tmp_path / "khacef", "must send data, sent an HTML page")
    zenodo.html = set()
    fetch(tmp_path / "khacef", zenodo.url)


def test_an_html_page_in_disguise_is_refused(zenodo: Zenodo, tmp_path: Path) -> None:
    zenodo.files["labels_train.npy"] = HTML
    refused(zenodo, tmp_path / "khacef", "labels_train.npy", "bytes")
    zenodo.files["labels_train.npy"] = FILES["labels_train.npy"]
    with pytest.raises(InputError, match="checksum"):
        fetch(tmp_path / "khacef", zenodo.url)  # resumed after the page, so it is a mixture, and dropped
    fetch(tmp_path / "khacef", zenodo.url)


def test_more_than_promised_is_refused(zenodo: Zenodo, tmp_path: Path) -> None:
    zenodo.files["labels_train.npy"] += b"more"
    refused(zenodo, tmp_path / "khacef", "labels_train.npy", "the server sends more")


@pytest.mark.parametrize(("name", "status"), [("record", 503), ("record", 404), ("data_sp_train.npy", 500)])
def test_an_error_of_the_server_is_refused(zenodo: Zenodo, tmp_path: Path, name: str, status: int) -> None:
    zenodo.status = {name: status}
    refused(zenodo, tmp_path / "khacef", f"must answer 200, got {status}")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"files": []}, "missing data_wr_train.npy"),
        ({"files": None}, "must have key"),
        ({"files": [{"key": "data_wr_train.npy"}]}, "must have key"),
        ({"files": [{"key": "data_wr_train.npy", "size": 1, "checksum": "md5:no", "links": {"self": "x"}}]}, "md5:no"),
    ],
)
def test_a_bad_record_is_refused(zenodo: Zenodo, tmp_path: Path, record: dict[str, object], said: str) -> None:
    zenodo.record = record
    refused(zenodo, tmp_path / "khacef", said)


def test_a_full_disk_is_foreseen(zenodo: Zenodo, tmp_path: Path) -> None:
    files = zenodo.answer_record()["files"]
    zenodo.record = {"files": [file | {"size": 10**15} for file in files]}
    refused(zenodo, tmp_path / "khacef", "of disk", "are free")


def test_nobody_there_is_refused(tmp_path: Path) -> None:
    refused(Zenodo(url="http://127.0.0.1:9"), tmp_path / "khacef", "the record cannot be read")


def test_a_folder_of_something_else_is_left_alone(zenodo: Zenodo, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="something else"):
        fetch(tmp_path, zenodo.url)
    assert zenodo.asked == []
