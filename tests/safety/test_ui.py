"""`mmtune ui` is for whoever has the address that it prints, whatever the environment asks of MLflow."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import CHROMIUM
from servers import EXPERIMENTS, LOOPBACK, addresses, cookie_of_ui, free_port, status

SLOW = pytest.mark.slow
MADE = "/api/2.0/mlflow/experiments/create"


def words(port: int, store: Path) -> list[str]:
    return [sys.executable, "-m", "mmtune.cli", "ui", "--port", str(port), "--store", str(store)]


@dataclass(frozen=True, kw_only=True)
class Ui:
    """A UI that runs: its process, its port, and the cookie that it asks for."""

    process: int
    port: int
    cookie: str

    @property
    def token(self) -> str:
        return self.cookie.partition("=")[2]

    def status(self, path: str, method: str = "GET", **headers: str) -> int:
        """What its owner's browser is answered."""
        return status(self.port, path, method, Cookie=f"other=1; {self.cookie}", **headers)


@pytest.fixture(scope="module")
def ui(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """Started in an environment that would have MLflow open to everybody."""
    port, here = free_port(), tmp_path_factory.mktemp("ui")
    away = tmp_path_factory.mktemp("away")
    open_to_all = {
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "*",
        "MLFLOW_HOST": "0.0.0.0",
        "MLFLOW_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_STATIC_PREFIX": "/elsewhere",
        "_MLFLOW_STATIC_PREFIX": "/elsewhere",
        "prometheus_multiproc_dir": str(away / "prometheus"),
        "FLASK_DEBUG": "1",
        "UVICORN_HOST": "0.0.0.0",
        "UVICORN_UDS": str(away / "socket"),
        "FORWARDED_ALLOW_IPS": "*",
    }
    process = subprocess.Popen(
        words(port, store_template),
        cwd=here,
        env=os.environ | open_to_all,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Ui(process=process.pid, port=port, cookie=cookie_of_ui(process, port))
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert not [*here.iterdir(), *away.iterdir()]


@SLOW
def test_it_listens_on_loopback_only(ui: Ui) -> None:
    assert addresses(ui.port) == {LOOPBACK}


@SLOW
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_it_answers_under_its_own_names(ui: Ui, name: str) -> None:
    assert ui.status(EXPERIMENTS, Host=f"{name}:{ui.port}") == 200


@SLOW
@pytest.mark.parametrize("name", ["evil.example", "10.evil.example", "192.168.evil.example", "127.0.0.1.evil.example"])
@pytest.mark.parametrize("path", [EXPERIMENTS, "/health"])
def test_a_foreign_name_is_refused(ui: Ui, name: str, path: str) -> None:
    for host in (name, f"{name}:{ui.port}"):
        assert ui.status(path, Host=host) == 403


@SLOW
def test_without_the_token_nothing_is_answered(ui: Ui) -> None:
    """Neither to no cookie, nor to a wrong one, nor to a wrong token."""
    with_cookie = http.client.HTTPConnection("127.0.0.1", ui.port, timeout=20)
    with_cookie.request("GET", "/", headers={"Cookie": ui.cookie})
    files = re.findall(r'"[./]*(static-files/[^"]+)"', with_cookie.getresponse().read().decode())
    assert files
    wrong = [{}, {"Cookie": f"mmtune-{ui.port}=x"}, {"Cookie": f"mmtune-{ui.port}="}, {"Cookie": f"token={ui.token}"}]
    for path in ("/", "/health", "/version", EXPERIMENTS, *(f"/{file}" for file in files)):
        assert ui.status(path) == 200
        assert {status(ui.port, path, **headers) for headers in wrong} == {403}
        for token in ("", "x", ui.token[:-1], f"{ui.token}x"):
            assert status(ui.port, f"{path}{'&' if '?' in path else '?'}token={token}") == 403
    assert status(ui.port, MADE, "POST") == 403
    assert status(ui.port, f"{MADE}?token={ui.token}", "POST") == 403
    assert status(ui.port, "/", Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Key="x") == 403


@SLOW
@pytest.mark.parametrize("path", ["/", "//evil.example/"])
def test_the_token_is_traded_for_a_cookie_and_leaves_the_address(ui: Ui, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ui.port, timeout=20)
    connection.request("GET", f"{path}?token={ui.token}")
    answer = connection.getresponse()
    if path == "/":
        assert answer.status == 200
        assert ui.token not in answer.read().decode()
        assert "script-src 'sha256-" in answer.headers["Content-Security-Policy"]
    else:
        assert answer.status == 303
        assert answer.headers["Location"] == path.replace("//", "/")
    assert answer.headers["Set-Cookie"] == f"{ui.cookie}; HttpOnly; SameSite=Strict; Path=/"
    assert answer.headers["Cache-Control"] == "no-store"


@SLOW
def test_a_browser_gets_to_the_place_in_the_address_and_no_panel_opens_over_it(ui: Ui) -> None:
    driver = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{ui.port}/?token={ui.token}#/experiments")
        page.wait_for_selector("text=Experiments", timeout=120_000)
        assert page.url == f"http://127.0.0.1:{ui.port}/#/experiments"
        kept = page.evaluate("({...localStorage})")
        browser.close()
    assert kept.get("mlflow.assistant.panelOpen_v1") != "true"


@SLOW
def test_mlflows_assistant_is_off(ui: Ui) -> None:
    """It runs commands on this machine, at the word of whoever has written a run's note."""
    for path in ("config", "providers", "message"):
        assert ui.status(f"/ajax-api/3.0/mlflow/assistant/{path}") == 403
    assert ui.status("/ajax-api/3.0/mlflow/assistant/message", "POST", Content_Type="application/json") == 403


@SLOW
def test_a_foreign_page_cannot_change_anything_though_its_browser_has_the_cookie(ui: Ui) -> None:
    """Pages of another port of this machine among them, to which MLflow's own rule says yes."""
    here = f"http://127.0.0.1:{ui.port}"
    others = ["http://evil.example", "https://127.0.0.1.evil.example", "null", "http://127.0.0.1", "http://localhost:1"]
    others += [f"https://127.0.0.1:{ui.port}", f"http://localhost:{ui.port}", f"{here}.evil.example", ""]
    for origin in others:
        assert ui.status(MADE, "POST", Origin=origin, Content_Type="text/plain") == 403
        assert ui.status(MADE, "OPTIONS", Origin=origin, Access_Control_Request_Method="POST") == 403
    assert ui.status(MADE, "POST", Origin=here, Content_Type="application/json") == 400  # no name is given


@SLOW
@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_a_foreign_page_may_link_to_it_but_not_use_it(ui: Ui, site: str) -> None:
    assert ui.status(EXPERIMENTS, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors") == 403
    assert ui.status("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate") == 200
    assert ui.status(MADE, "POST", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate") == 403


@SLOW
def test_no_files_can_be_put_there(ui: Ui) -> None:
    assert ui.status("/api/2.0/mlflow-artifacts/artifacts/x/y.txt", "PUT") >= 400


@SLOW
def test_other_users_see_no_token(ui: Ui) -> None:
    for name in ("cmdline", "environ"):
        assert ui.token not in Path(f"/proc/{ui.process}/{name}").read_text()


@SLOW
def test_each_start_has_a_token_of_its_own_and_ctrl_c_ends_it_quietly(ui: Ui, store_template: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        words(port, store_template), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    token = cookie_of_ui(process, port).partition("=")[2]
    assert len(token) >= 40
    assert token != ui.token
    assert status(port, "/", Cookie=f"mmtune-{port}={token}") == 200
    process.send_signal(2)
    text, _ = process.communicate(timeout=60)
    assert (process.returncode, text) == (0, "")


def test_a_port_that_is_taken_is_refused_before_any_address_is_printed(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(words(port, tmp_path / "new"), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mmtune: --port must be one that is free on 127.0.0.1, got {port}: Address already in use\n"
    assert not list(tmp_path.iterdir())
