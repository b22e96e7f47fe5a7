"""A registered model that answers over HTTP in this very process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from mmtune.serve.server import application
from mmtune.serve.ui import LOOPBACK, bound


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
