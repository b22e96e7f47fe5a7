"""A registered model, and how it answers over HTTP in this very process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from rich.console import Console

from mmtune.data.storage.store import load as load_data
from mmtune.serve.promotion import promote
from mmtune.serve.web.server import application
from mmtune.serve.web.ui import LOOPBACK, bound
from mmtune.study import Study
from mmtune.study.options import Options
from mmtune.tracking import MlflowTracker
from mmtune.tune.run import run_study


def champion_of(study: Study, data: Path, root: Path) -> Path:
    """A store, whose champion is called as the study, which has run on a data set's folder."""
    dataset = load_data(data)
    done = run_study(study, dataset, Options(workers=1, device="cpu"), root, Console(quiet=True))
    assert done is not None
    tracker = MlflowTracker(root)
    run = tracker.study(done.key)
    assert run is not None
    promote(tracker, run, dataset)
    return root


@contextmanager
def answering(folder: Path) -> Iterator[str]:
    """The address at which the predictor in a folder answers."""
    own = bound(0)
    port = own.getsockname()[1]
    app = application(folder, [f"{LOOPBACK}:{port}"])
    running = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [own]}, daemon=True)
    thread.start()
    yield f"http://{LOOPBACK}:{port}"
    running.should_exit = True
    thread.join(20)
