"""The server of docs/team.md, set up by the commands that stand there: who gets in, and what people see of a study."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from checks import mmtune, run
from databases import Postgres
from servers import EXPERIMENTS, LOOPBACK, addresses, free_port, status, wait_until_up

from mmtune.data.dataset import Dataset
from mmtune.tracking import MlflowTracker

pytestmark = pytest.mark.slow
TEXT = (Path(__file__).parent.parent.parent / "docs" / "team.md").read_text()
BLOCKS: dict[str, str] = dict(re.findall(r"^```sh\n# (\w+)\n(.*?)^```$", TEXT, re.M | re.S))
NAME = "mlflow.example.org"


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where it is, and what the commands are told of it."""

    home: Path
    port: int
    environment: Mapping[str, str]

    def secret(self, name: str) -> str:
        return (self.home / name).read_text().strip()

    def runs(self, block: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A block of the document, after its settings."""
        done = subprocess.run(
            self.words(block), env={**self.environment, **environment}, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def words(self, block: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", BLOCKS["settings"] + BLOCKS[block]]

    def person(self, name: str) -> tuple[str, str]:
        """A new person and the password that the document's command prints."""
        done = self.runs("person", PERSON=name)
        assert done.returncode == 0, done.stderr
        return name, done.stdout.strip().splitlines()[-1]

    def of(self, user: tuple[str, str]) -> dict[str, str]:
        """The environment of a person."""
        own = {"MLFLOW_TRACKING_USERNAME": user[0], "MLFLOW_TRACKING_PASSWORD": user[1]}
        return {"MLFLOW_TRACKING_URI": self.environment["SERVER_URL"], **own}

    def study(self, user: tuple[str, str], store: Path, dataset: Dataset, *more: str) -> str:
        """A study as the document has people run it."""
        where = ["--store", str(store), "--data", str(dataset.folder), "--workers", "1", "--device", "cpu"]
        own = {**self.of(user), "STUDY_OPTIONS": " ".join([*where, "--epochs", "3", *more])}
        # The commands take the store of the working directory.
        done = subprocess.run(
            self.words("study"), cwd=store.parent, env={**self.environment, **own}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("flask_wtf", reason="needs the extra `team`")
    home, port = tmp_path_factory.mktemp("srv") / "mlflow", free_port()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PG"))}
    own = {"SERVER_HOME": str(home), "SERVER_PORT": str(port), "SERVER_URL": f"http://127.0.0.1:{port}"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    made = Server(home=home, port=port, environment={**plain, **postgres.environment, **own, "PATH": path})
    for block in ("secrets", "databases", "permissions"):
        done = made.runs(block)
        assert done.returncode == 0, done.stderr
    without_admin = {name: value for name, value in made.environment.items() if name not in ("PGUSER", "PGPASSWORD")}
    log = (home / "log").open("w")
    process = subprocess.Popen(made.words("server"), env=without_admin, cwd=home, stdout=log, stderr=log, text=True)
    try:
        wait_until_up(process, port)
        yield made
    finally:
        process.terminate()
        process.wait(timeout=60)


def administrator(server: Server) -> tuple[str, str]:
    return "admin", server.secret("admin-password")


def client_of(server: Server, user: tuple[str, str], patch: pytest.MonkeyPatch) -> object:
    from mlflow import MlflowClient

    patch.setenv("MLFLOW_TRACKING_USERNAME", user[0])
    patch.setenv("MLFLOW_TRACKING_PASSWORD", user[1])
    return MlflowClient(server.environment["SERVER_URL"])


def test_the_document_has_the_blocks_that_are_run_here() -> None:
    assert list(BLOCKS) == ["settings", "secrets", "databases", "permissions", "server", "person", "study"]


def test_nobody_gets_in_without_a_password(server: Server) -> None:
    for path in (EXPERIMENTS, "/", "/graphql", "/api/2.0/mlflow-artifacts/artifacts?path=", "/ajax-api/3.0/jobs/x"):
        assert status(server.port, path) == 401, path
    for name, password in (("admin", "password1234"), ("admin", "password"), ("nobody", ""), ("mlflow", "mlflow")):
        assert status(server.port, EXPERIMENTS, user=(name, password)) == 401
    assert status(server.port, EXPERIMENTS, user=administrator(server)) == 200


def test_it_does_not_start_without_an_administrators_password(server: Server, tmp_path: Path) -> None:
    other = Server(
        home=shutil.copytree(server.home, tmp_path / "mlflow"),
        port=free_port(),
        environment={**server.environment, "SERVER_HOME": str(tmp_path / "mlflow")},
    )
    (other.home / "admin-password").write_text("")
    (other.home / "basic_auth.ini").write_text(
        re.sub(
            "(?m)^database_uri.*",
            f"database_uri = sqlite:///{tmp_path}/auth.db",
            (other.home / "basic_auth.ini").read_text(),
        )
    )
    done = subprocess.run(
        other.words("server"),
        env={**other.environment, "SERVER_PORT": str(other.port)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "ships no default admin password" in done.stderr


def test_it_answers_only_to_its_own_name_and_on_loopback(server: Server) -> None:
    user = administrator(server)
    for name in (NAME, f"127.0.0.1:{server.port}"):
        assert status(server.port, EXPERIMENTS, user=user, Host=name) == 200
    for name in ("evil.example", "10.evil.example", f"{NAME}.evil.example", f"localhost.evil.example:{server.port}"):
        assert status(server.port, EXPERIMENTS, user=user, Host=name) == 403
    made = "/api/2.0/mlflow/experiments/create"
    assert status(server.port, made, "POST", user=user, Origin="https://evil.example") == 403
    assert addresses(server.port) == {LOOPBACK}


def test_no_secret_is_in_an_argument_or_in_a_file_for_others(server: Server) -> None:
    secrets = [server.secret(name) for name in ("database-password", "admin-password", "secret-key")]
    assert all(len(secret) > 40 for secret in secrets)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_text()
        except (OSError, UnicodeDecodeError):
            continue
        assert not any(secret in said for secret in secrets)
    assert not [path for path in server.home.iterdir() if path.stat().st_mode & 0o077 and path.name != "log"]


def test_everybody_sees_every_run_and_one_champion(
    server: Server, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = {name: server.person(name) for name in ("ada", "bob")}
    stores = {name: tmp_path / name / "mlruns" for name in people}
    for store in stores.values():
        store.parent.mkdir()

    def on(name: str, *words: str) -> str:
        for variable, value in server.of(people[name]).items():
            monkeypatch.setenv(variable, value)
        text = run(mmtune(*words, "--store", str(stores[name])))
        assert people[name][1] not in text
        return text

    server.study(people["ada"], stores["ada"], tiny, "--trials", "2")
    told = server.study(people["bob"], stores["bob"], tiny, "--trials", "1", "--epochs", "4")
    assert people["bob"][1] not in told
    assert any("audio_rnn" in line and "clip_disjoint, seed 0" in line for line in told.splitlines())
    client = client_of(server, people["bob"], monkeypatch)
    (experiment,) = [e for e in client.search_experiments() if e.name == "audio_rnn"]  # type: ignore[attr-defined]
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    found = client.search_runs([experiment.experiment_id])  # type: ignore[attr-defined]
    assert len(found) == 2 + 1 + 2
    assert {one.info.status for one in found} == {"FINISHED"}
    assert {one.data.tags["mlflow.user"] for one in found} == {getpass.getuser()}

    data = ("--data", str(tiny.folder))
    on("bob", "report", "audio_rnn", *data)
    assert "version 1" in on("bob", "promote", "audio_rnn", *data)
    on("ada", "predict", "--model", "audio_rnn", *data, "--out", str(tmp_path / "ada.csv"))
    on("bob", "predict", "--model", "audio_rnn", *data, "--out", str(tmp_path / "bob.csv"))
    assert (tmp_path / "ada.csv").read_bytes() == (tmp_path / "bob.csv").read_bytes()

    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=r"403|[Pp]ermission"):
        client.delete_run(found[0].info.run_id)  # type: ignore[attr-defined]
    assert list(server.home.glob("artifacts/*/*/artifacts/model/weights.safetensors"))


def test_a_second_person_goes_on_with_a_study(
    server: Server, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = {name: server.person(name) for name in ("cyd", "dan")}
    for name, trials in (("cyd", 1), ("dan", 3)):
        (tmp_path / name).mkdir()
        server.study(people[name], tmp_path / name / "mlruns", tiny, "--trials", str(trials), "--seed", "7")
    for name in people:
        for variable, value in server.of(people[name]).items():
            monkeypatch.setenv(variable, value)
        (study,) = [one for one in MlflowTracker(tmp_path / name).studies("audio_rnn") if one.key.seed == 7]
        assert [trial.number for trial in MlflowTracker(tmp_path / name).trials(study.run_id)] == [0, 1, 2]


def test_a_wrong_password_is_a_line(
    server: Server, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in server.of(("ada", "not this one")).items():
        monkeypatch.setenv(variable, value)
    text = run([*mmtune("study", "audio_rnn"), "--store", str(tmp_path), "--data", str(tiny.folder)], code=2)
    assert len(text.splitlines()) == 1
    assert "not this one" not in text


def test_a_changed_password_counts_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.server import get_app_client

    eve = server.person("eve")
    assert status(server.port, EXPERIMENTS, user=eve) == 200
    client_of(server, administrator(server), monkeypatch)
    people = get_app_client("basic-auth", tracking_uri=server.environment["SERVER_URL"])
    people.update_user_password("eve", "another long password")
    assert status(server.port, EXPERIMENTS, user=eve) == 401
    assert status(server.port, EXPERIMENTS, user=("eve", "another long password")) == 200
    people.delete_user("eve")
    assert status(server.port, EXPERIMENTS, user=("eve", "another long password")) == 401
