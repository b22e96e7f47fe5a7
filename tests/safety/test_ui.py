"""`mmtune ui` is for this machine alone, whatever the environment asks of MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import EXPERIMENTS, LOOPBACK, addresses, free_port, status, wait_until_up

pytestmark = pytest.mark.slow
OPEN = {
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "*",
    "MLFLOW_HOST": "0.0.0.0",
    "MLFLOW_SERVE_ARTIFACTS": "true",
}


@pytest.fixture(scope="module")
def port(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where the UI answers, started in an environment that would have MLflow open to everybody."""
    number = free_port()
    words = [sys.executable, "-m", "mmtune.cli", "ui", "--port", str(number), "--store", str(store_template)]
    here = tmp_path_factory.mktemp("ui")
    output = (here / "log").open("w")
    process = subprocess.Popen(words, cwd=here, env=os.environ | OPEN, stdout=output, stderr=output, text=True)
    try:
        wait_until_up(process, number)
        yield number
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert [path.name for path in here.iterdir()] == ["log"]


def test_it_listens_on_loopback_only(port: int) -> None:
    assert addresses(port) == {LOOPBACK}


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_it_answers_under_its_own_names(port: int, name: str) -> None:
    assert status(port, EXPERIMENTS, Host=f"{name}:{port}") == 200


@pytest.mark.parametrize("name", ["evil.example", "10.evil.example", "192.168.evil.example", "127.0.0.1.evil.example"])
def test_a_foreign_name_is_refused(port: int, name: str) -> None:
    for host in (name, f"{name}:{port}"):
        assert status(port, EXPERIMENTS, Host=host) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null"])
def test_a_foreign_page_cannot_change_anything(port: int, origin: str) -> None:
    made = "/api/2.0/mlflow/experiments/create"
    assert status(port, made, "POST", Origin=origin, Content_Type="text/plain") == 403


def test_no_files_can_be_put_there(port: int) -> None:
    assert status(port, "/api/2.0/mlflow-artifacts/artifacts/x/y.txt", "PUT") >= 400
