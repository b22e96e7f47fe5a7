"""A registered model over HTTP, asked as curl asks it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmtune.api.loading import load
from mmtune.data.dataset import Dataset
from mmtune.serve.answer.tally import one
from mmtune.serve.web import server


def asked(address: str, path: str, content: bytes | None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"{address}/{path}", content, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read().decode()
            return response.status, json.loads(text) if text.startswith("{") else text
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_files_are_answered_as_by_predict_and_a_bad_row_by_itself(
    address: str, served: Path, files: tuple[Path, Path]
) -> None:
    picture, sound = files
    both = {"image": encoded(picture), "audio": encoded(sound)}
    rows = [both, {"image": "no base64"}, {"image": encoded(sound)}, {"image": encoded(picture)}, {}, {"scan": "MQ=="}]
    code, found = asked(address, "predict", json.dumps({"rows": rows, "top": 2}).encode())
    assert code == 200
    predictor = load("served", store=served)
    assert found["predictions"][0] == one(predictor.predict(image=picture, audio=sound), 2)
    assert found["predictions"][3] == one(predictor.predict(image=picture), 2)
    refused = [own["refused"] for own in found["predictions"] if "refused" in own]
    assert len(refused) == 4
    assert "image must be a file in base64" in refused[0]
    assert not any("/tmp" in own for own in refused)
    assert "this model takes image" in refused[3]


def test_a_path_is_no_file_and_numbers_are_an_array(address: str, served: Path, files: tuple[Path, Path]) -> None:
    """A file of this machine is not for whoever can reach its loopback."""
    picture, sound = files
    values = np.asarray(Image.open(picture))
    paths = [{"image": [str(picture)]}, {"image": {"path": str(picture)}}, {"image": [[str(picture)]]}]
    rows = [*paths, {"image": [[1, 2], [3]]}, {"image": values.tolist(), "audio": encoded(sound)}]
    code, found = asked(address, "predict", json.dumps({"rows": rows, "look": True}).encode())
    assert code == 200
    *refused, whole = found["predictions"]
    assert all("image must be a file in base64, or an array of numbers, got" in own["refused"] for own in refused)
    said = one(load("served", store=served).predict(image=values, audio=sound), 3)
    assert {name: whole[name] for name in ("class", "probability")} == {n: said[n] for n in ("class", "probability")}


def test_a_row_is_one_row(address: str, files: tuple[Path, Path]) -> None:
    """A row that holds several, or a name that no file could have, costs no other row its answer."""
    picture = np.asarray(Image.open(files[0])).tolist()
    rows = [{"image": [picture, picture]}, {"image": picture}, {"x" * 300: encoded(files[0])}]
    code, found = asked(address, "predict", json.dumps({"rows": rows}).encode())
    assert code == 200
    several, single, odd = found["predictions"]
    assert several["refused"] == "a row must have one value of each bank, got 2"
    assert "class" in single
    assert "this model takes image" in odd["refused"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no json", "a request must be JSON"),
        (b"[]", "a request must be {"),
        (b'{"rows": []}', "rows must be 1 to 1,000, got 0"),
        (b'{"rows": [{}], "top": 0}', "top must be a whole number from 1 to 100, got 0"),
        (b'{"rows": [{}], "abstain_at": 7}', "abstain_at"),
        (b'{"rows": [{}], "look": 1}', "look must be true or false, got 1"),
        (b'{"rows": [{}], "wanted": 1}', "a request must be {"),
        (b"[" * 100_000, "a request must be JSON"),
    ],
)
def test_what_is_no_request_gets_a_line(address: str, content: bytes, said: str) -> None:
    code, found = asked(address, "predict", content)
    assert (code, found["error_code"]) == (400, "BAD_REQUEST")
    assert said in found["message"]
    assert "\n" not in found["message"]


def test_arrays_go_to_mlflow_s_own(address: str, tiny: Dataset) -> None:
    banks = tiny.require_test().banks
    inputs = {bank: banks[bank].of_rows(np.arange(2)).tolist() for bank in ("image", "waveform")}
    code, found = asked(address, "invocations", json.dumps({"inputs": inputs}).encode())
    assert code == 200
    assert [set(row) >= {"class", "probability", "abstained"} for row in found["predictions"]] == [True, True]
    assert asked(address, "health", None)[0] == asked(address, "ping", None)[0] == 200


def test_what_is_too_large_or_comes_under_another_name_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(address, "ping", None, Host="evil.example")[0] == 403
    # As a browser asks for a page of others.
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert asked(address, "predict", b'{"rows": [{}]}', **headers)[0] == 403
    assert asked(address, "predict", b'{"rows": [{}]}', Origin=address)[0] == 200
    monkeypatch.setattr(server, "MOST_BYTES", 10)
    assert asked(address, "predict", b'{"rows": [{}]}')[0] == 413
