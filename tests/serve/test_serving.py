"""A registered model over HTTP, asked as curl asks it."""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from rich.console import Console

from mmtune.api.loading import load
from mmtune.data.dataset import Dataset
from mmtune.data.store import load as load_data
from mmtune.networks import MLP, LateFusion
from mmtune.serve import server
from mmtune.serve.promotion import promote
from mmtune.serve.server import application
from mmtune.serve.tally import one
from mmtune.serve.ui import LOOPBACK, bound
from mmtune.serve.versions import champion_folder
from mmtune.study import Study
from mmtune.study.options import Options
from mmtune.tracking import MlflowTracker
from mmtune.train.recipe import Train, TrialConfig
from mmtune.tune.run import run_study

STUDY = Study(
    name="served",
    base=TrialConfig(model=LateFusion(encoders={"image": MLP(), "waveform": MLP(width=8)}), train=Train(epochs=2)),
    space=(),
)


@pytest.fixture(scope="module")
def store(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a champion that hears and sees."""
    root = tmp_path_factory.mktemp("served") / "mlruns"
    done = run_study(STUDY, tiny, Options(workers=1, device="cpu"), root, Console(quiet=True))
    assert done is not None
    tracker = MlflowTracker(root)
    run = tracker.study(done.key)
    assert run is not None
    promote(tracker, run, load_data(tiny.folder))
    return root


@pytest.fixture(scope="module")
def address(store: Path) -> Iterator[str]:
    own = bound(0)
    port = own.getsockname()[1]
    app = application(champion_folder(store, "served", None), [f"{LOOPBACK}:{port}"])
    running = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [own]}, daemon=True)
    thread.start()
    yield f"http://{LOOPBACK}:{port}"
    running.should_exit = True
    thread.join(20)


def asked(address: str, path: str, content: bytes | None, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"{address}/{path}", content, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read().decode()
            return response.status, json.loads(text) if text.startswith("{") else text
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


@pytest.fixture
def files(tiny: Dataset, tmp_path: Path) -> tuple[Path, Path]:
    """A picture and a recording of the test partition."""
    test = tiny.require_test()
    Image.fromarray(test.banks["image"].of_rows(np.array([3]))[0]).save(tmp_path / "three.png")
    with wave.open(str(tmp_path / "three.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(test.banks["waveform"].of_rows(np.array([3]))[0].tobytes())
    return tmp_path / "three.png", tmp_path / "three.wav"


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_files_are_answered_as_by_predict_and_a_bad_row_by_itself(
    address: str, store: Path, files: tuple[Path, Path]
) -> None:
    picture, sound = files
    both = {"image": encoded(picture), "audio": encoded(sound)}
    rows = [both, {"image": "no base64"}, {"image": encoded(sound)}, {"image": encoded(picture)}, {}, {"scan": "MQ=="}]
    code, found = asked(address, "predict", json.dumps({"rows": rows, "top": 2}).encode())
    assert code == 200
    predictor = load("served", store=store)
    assert found["predictions"][0] == one(predictor.predict(image=picture, audio=sound), 2)
    assert found["predictions"][3] == one(predictor.predict(image=picture), 2)
    refused = [own["refused"] for own in found["predictions"] if "refused" in own]
    assert len(refused) == 4
    assert "image must be a file in base64" in refused[0]
    assert not any("/tmp" in own for own in refused)
    assert "this model takes image" in refused[3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no json", "a request must be JSON"),
        (b"[]", "a request must be {"),
        (b'{"rows": []}', "rows must be 1 to 1,000, got 0"),
        (b'{"rows": [{}], "top": 0}', "top must be a whole number from 1 to 100, got 0"),
        (b'{"rows": [{}], "abstain_at": 7}', "abstain_at"),
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
    monkeypatch.setattr(server, "MOST_BYTES", 10)
    assert asked(address, "predict", b'{"rows": [{}]}')[0] == 413
