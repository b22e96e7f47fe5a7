"""What lies around a study: clocks that jump, folders that cannot be written, odd names, colleagues, other versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import soundfile
from checks import check_whole, command, scores, states_of, wait_for
from tracked import OBJECTIVE

from mmtune.base.provenance import git_commit
from mmtune.data.dataset import Dataset
from mmtune.data.media.recordings import SAMPLE_RATE
from mmtune.data.storage.store import load, save
from mmtune.tracking import COMPLETE, MlflowTracker

REPOSITORY = Path(__file__).parent.parent.parent


def start(words: Sequence[str], cwd: Path, environment: Mapping[str, str], **how: object) -> subprocess.Popen[str]:
    """A call in surroundings of its own; a variable that is "" is not set."""
    merged = {name: value for name, value in {**os.environ, **environment}.items() if value}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        words, cwd=cwd, env=merged, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it printed, once it has ended with an exit code; a refusal is one line."""
    out, told = process.communicate(timeout=280)
    assert process.returncode == code, out + told
    assert "Traceback" not in out + told
    if code == 2:
        assert len(told.strip().splitlines()) == 1, told
    return out + told


def mmtune(*words: str, cwd: Path, code: int = 0, environment: Mapping[str, str] | None = None) -> str:
    return ended(start([sys.executable, "-m", "mmtune.cli", *words], cwd, environment or {}), code)


# ---- clocks

CLOCK = """
import os, time

DAYS, DAY = [int(word) for word in os.environ["JUMPS"].split()], 86_400
began, seconds, nanoseconds = time.monotonic(), time.time, time.time_ns

def jump():
    return DAY * DAYS[int((time.monotonic() - began) / 0.4) % len(DAYS)]

time.time = lambda: seconds() + jump()
time.time_ns = lambda: nanoseconds() + jump() * 10**9
"""


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a clock that is off by the days in JUMPS, one after another, 0.4 s each."""
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CLOCK)
    return folder


def with_clock(clock: Path, jumps: str) -> dict[str, str]:
    return {"PYTHONPATH": str(clock), "JUMPS": jumps}


def check_times(store: Path, study: str = "audio_rnn") -> None:
    """Every run ends after it began and after all of its epochs, and attempts are in the order of their making."""
    tracker = MlflowTracker(store)
    for parent in tracker.studies(study):
        runs = tracker.trials(parent.run_id)
        for run_id in (parent.run_id, *(run.run_id for run in runs)):
            info = tracker.client.get_run(run_id).info
            assert info.end_time >= info.start_time
            times = [metric.timestamp for metric in tracker.client.get_metric_history(run_id, "val_loss")]
            assert all(info.start_time <= time <= info.end_time for time in times)
        for number in {run.number for run in runs}:
            attempts = [run.state for run in runs if run.number == number]
            assert attempts[:-1] == ["FAIL"] * (len(attempts) - 1)


@pytest.mark.slow
def test_a_clock_that_jumps_disturbs_nothing(
    tiny: Dataset, store: Path, tmp_path: Path, clock: Path, undisturbed: list[tuple[float, float]]
) -> None:
    jumping, behind = with_clock(clock, "0 3 -2 40 -1 400 0 -300"), with_clock(clock, "-1")
    process = start(command(tiny, store), tmp_path, jumping)
    wait_for(process, "[1/4]")
    process.kill()
    process.communicate()
    ended(start(command(tiny, store), tmp_path, behind))
    assert scores(check_whole(store)) == undisturbed
    check_times(store)


@pytest.mark.slow
def test_what_is_done_last_counts_as_last_on_a_clock_that_is_behind(
    tiny: Dataset, store: Path, tmp_path: Path, clock: Path
) -> None:
    behind = with_clock(clock, "-1")
    ended(start(command(tiny, store, trials=1, epochs=8), tmp_path, {}))
    ended(start(command(tiny, store, trials=4, epochs=8), tmp_path, behind))
    complete = check_whole(store, epochs=8)
    check_times(store)
    tracker = MlflowTracker(store)
    (parent,) = tracker.studies("audio_rnn")
    best = max(trial.metrics[OBJECTIVE] for trial in complete)
    assert best > complete[0].metrics[OBJECTIVE]
    assert tracker.client.get_run(parent.run_id).data.metrics[OBJECTIVE] == best
    ended(start(command(tiny, store, "--seed", "1", trials=1, epochs=8), tmp_path, with_clock(clock, "-2")))
    assert [run.key.seed for run in tracker.studies("audio_rnn")] == [1, 0]
    assert "seed1" in mmtune("report", "audio_rnn", "--store", str(store), cwd=tmp_path)


# ---- folders that cannot be written


def test_a_cache_folder_that_cannot_be_made_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for environment in ({"XDG_CACHE_HOME": "file"}, {"XDG_CACHE_HOME": "", "HOME": "file"}):
        place = {name: value and str(tmp_path / value) for name, value in environment.items()}
        told = mmtune("study", "audio_rnn", cwd=tmp_path, code=2, environment=place)
        assert str(tmp_path / "file") in told
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ---- names


@pytest.mark.slow
def test_names_with_blanks_umlauts_and_emoji_are_names(tmp_path: Path) -> None:
    home, here = tmp_path / "Jörg Ünal 🎧", tmp_path / "Übung (neu) – 数字"
    home.mkdir()
    here.mkdir()
    odd = {"HOME": str(home), "XDG_CACHE_HOME": ""}
    place = ["--store", "meine Läufe 🏃"]
    study = ["study", "audio_rnn", *place, "--epochs", "3", "--trials", "1", "--workers", "1"]
    mmtune(*study, cwd=here, environment=odd)
    store = here / place[1]
    check_whole(store, trials=1, epochs=3)
    assert (home / ".cache" / "mmtune").is_dir()
    page = mmtune("report", "audio_rnn", *place, cwd=here, environment=odd).partition(": ")[2].strip()
    assert Path(page).is_relative_to(store)
    assert "version 1 is champion" in mmtune("promote", "audio_rnn", *place, cwd=here, environment=odd)
    sample = load(next((home / ".cache" / "mmtune").iterdir()))
    wave = sample.require_test().banks["waveform"].values[0]
    soundfile.write(here / "Zähler 7️⃣.wav", wave, SAMPLE_RATE)
    spoken = mmtune("predict", "--model", "audio_rnn", "--audio", "Zähler 7️⃣.wav", *place, cwd=here, environment=odd)
    assert "class" in spoken
    shutil.copytree(sample.folder, here / "Däta 📦")
    scored = ["--data", "Däta 📦", "--out", "Lösung ✓.csv"]
    mmtune("predict", "--model", "audio_rnn", *scored, *place, cwd=here, environment=odd)
    assert len((here / "Lösung ✓.csv").read_text().splitlines()) == 1 + len(sample.require_test())
    assert "started" not in mmtune(*study, "--data", "Däta 📦", cwd=here, environment=odd)
    check_whole(store, trials=1, epochs=3)


@pytest.mark.slow
def test_a_store_that_no_address_can_name_is_refused_in_a_line(tiny: Dataset, tmp_path: Path) -> None:
    for name in ("100%", "was?", "a#b"):
        told = ended(start(command(tiny, tmp_path / name), tmp_path, {}), code=2)
        assert f"--store must be a path without %, ? and #, got {tmp_path / name}" in told


# ---- colleagues


GROUP = 54_300


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody without an entry in the list of users, as in a container, and the group shared with colleagues.

    reads_all: with the right to read every file, for where this Python lies in a folder that is closed to others.
    """

    uid: int
    home: Path
    reads_all: bool
    umask: int = 0o002

    def starts(self, words: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        own = {"HOME": str(self.home), "XDG_CACHE_HOME": "", "USER": "", "LOGNAME": "", **environment}
        ids = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", f"--groups={GROUP}"]
        rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"] * self.reads_all
        return start([*ids, *rights, *words], self.home, own, umask=self.umask)

    def mmtune(self, *words: str, code: int = 0) -> str:
        return ended(self.starts([sys.executable, "-m", "mmtune.cli", *words]), code)

    @property
    def works(self) -> bool:
        """Whether this user can run mmtune at all, and it other processes."""
        code = "import subprocess, sys, mmtune.cli, torch; subprocess.run([sys.executable, '-c', ''], check=True)"
        process = self.starts([sys.executable, "-c", code])
        process.communicate()
        return process.returncode == 0


@dataclass(frozen=True, kw_only=True)
class Office:
    """A folder that is open to everybody on this machine, data in it, and two users."""

    folder: Path
    data: Dataset
    users: tuple[User, User]

    def shared(self, mode: int) -> Path:
        """A folder of the first user's for the group, which whatever is made in it belongs to."""
        store = self.folder / "mlruns"
        store.mkdir()
        os.chown(store, self.users[0].uid, GROUP)
        store.chmod(mode)
        return store


@pytest.fixture
def office(tiny: Dataset) -> Iterator[Office]:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root, with util-linux's setpriv, can start processes of other users")
    folder = Path(tempfile.mkdtemp(prefix="mmtune-office-"))
    try:
        folder.chmod(0o755)
        reads_all = not User(uid=54_301, home=folder, reads_all=False).works
        users = [User(uid=uid, home=folder / f"home {uid}", reads_all=reads_all) for uid in (54_301, 54_302)]
        for user in users:
            user.home.mkdir()
            os.chown(user.home, user.uid, user.uid)
        if not users[0].works:
            pytest.skip(f"other users of this machine cannot read {REPOSITORY} or {sys.prefix}")
        yield Office(folder=folder, data=save(tiny, folder / "tiny"), users=(users[0], users[1]))
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_two_users_work_in_one_store_and_read_each_others_reports(office: Office) -> None:
    store = office.shared(0o2775)
    first, second = office.users
    calls = {
        "audio_rnn": first.starts(command(office.data, store, study="audio_rnn", trials=2, epochs=4)),
        "image_cnn": second.starts(command(office.data, store, study="image_cnn", trials=2, epochs=2)),
    }
    for call in calls.values():
        ended(call)
    check_whole(store, "audio_rnn", trials=2, epochs=4)
    check_whole(store, "image_cnn", trials=2, epochs=2)
    for user, study in ((first, "image_cnn"), (second, "audio_rnn"), (first, "audio_rnn"), (second, "image_cnn")):
        user.mmtune("report", study, "--store", str(store))
    # Each goes on with what the other has begun, and promotes it.
    ended(second.starts(command(office.data, store, study="audio_rnn", trials=4, epochs=4)))
    complete = check_whole(store, "audio_rnn", trials=4, epochs=4)
    # A checkout that belongs to somebody else says its commit all the same.
    known = bool(git_commit(REPOSITORY / "mmtune"))
    assert {bool(trial.tags["mmtune.git_commit"]) for trial in complete} == {known}
    first.mmtune("promote", "image_cnn", "--store", str(store))
    second.mmtune("promote", "image_cnn", "--store", str(store))
    paths = [store, *store.rglob("*")]
    assert {str(path.relative_to(store)): oct(path.stat().st_mode) for path in paths if not shared_by_group(path)} == {}


def shared_by_group(path: Path) -> bool:
    """Whether colleagues may read and write a file or folder."""
    found = path.stat()
    return found.st_gid == GROUP and found.st_mode & 0o060 == 0o060


@pytest.mark.slow
def test_without_the_groups_right_to_write_a_colleague_is_told_what_lacks_it(office: Office) -> None:
    store = office.shared(0o2775)
    first, second = office.users
    careless = replace(first, umask=0o022)
    ended(careless.starts(command(office.data, store, trials=2, epochs=4)))
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    for words in (
        command(office.data, store, "--seed", "1", trials=1),
        command(office.data, store, trials=4, epochs=4),
    ):
        told = ended(second.starts(words), code=2)
        named = [word for word in told.replace(":", " ").split() if word.startswith(str(store))]
        assert named, told
        assert not Path(named[0]).stat().st_mode & 0o020
    assert "must be writable" in second.mmtune("report", "audio_rnn", "--store", str(store), code=2)
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == before
    # One after another is mended, and none is found out only when a trial has ended.
    lacking = {"locks", "staging", "artifacts", ".store.lock", "mlflow.db"}
    while lacking:
        told = ended(second.starts(command(office.data, store, study="image_cnn", trials=1, epochs=1)), code=2)
        named = next((name for name in lacking if told.startswith(f"mmtune: {store / name}")), "")
        assert named, told
        (store / named).chmod((store / named).stat().st_mode | 0o020)
        lacking.remove(named)
    ended(second.starts(command(office.data, store, study="image_cnn", trials=1, epochs=1)))
    check_whole(store, "image_cnn", trials=1, epochs=1)
    ended(careless.starts(command(office.data, store, trials=4, epochs=4)))
    check_whole(store, epochs=4)


@pytest.mark.slow
def test_a_home_that_cannot_be_written_stops_only_what_needs_it(office: Office) -> None:
    store = office.shared(0o2775)
    user = replace(office.users[0], home=Path("/"))
    told = user.mmtune("study", "audio_rnn", "--store", str(store), code=2)
    assert "/.cache/mmtune/sample" in told
    assert list(store.iterdir()) == []
    ended(user.starts(command(office.data, store, trials=1, epochs=4)))
    check_whole(store, trials=1, epochs=4)
    user.mmtune("report", "audio_rnn", "--store", str(store))
    user.mmtune("promote", "audio_rnn", "--store", str(store))
    out = office.users[0].home / "out.csv"
    scored = ["--data", str(office.data.folder), "--out", str(out)]
    user.mmtune("predict", "--model", "audio_rnn", *scored, "--store", str(store))
    assert len(out.read_text().splitlines()) == 1 + len(office.data.require_test())


# ---- many at once


@pytest.mark.slow
def test_eight_studies_start_at_once_on_an_empty_folder(tiny: Dataset, tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    names = ["image_cnn", "multihead_fusion", "dual_cnn_fusion", "spectrogram_fusion", "xflow_cnn_mlp"]
    calls = [("audio_rnn", seed) for seed in range(3)] + [(name, 0) for name in names]
    one = ["--workers", "1"]
    running = [
        start(command(tiny, store, "--seed", str(seed), *one, study=name, trials=1, epochs=1), tmp_path, {})
        for name, seed in calls
    ]
    for call in running:
        ended(call)
    tracker = MlflowTracker(store)
    assert sorted((run.key.study, run.key.seed) for run in tracker.studies()) == sorted(calls)
    for name in names:
        check_whole(store, name, trials=1, epochs=1)
    for run in tracker.studies("audio_rnn"):
        assert [trial.state for trial in tracker.trials(run.run_id)] == [COMPLETE]
        assert run.status == "FINISHED"
    told = ended(start(command(tiny, store, *one, trials=2, epochs=1), tmp_path, {}))
    assert [line.split()[1] for line in told.splitlines() if line.endswith("started")] == ["01"]


# ---- what is not the same any more


@pytest.fixture
def begun(tiny: Dataset, store: Path, tmp_path: Path) -> Path:
    """A store with the first two trials of a study."""
    ended(start(command(tiny, store, trials=2, epochs=4), tmp_path, {}))
    check_whole(store, trials=2, epochs=4)
    return store


@pytest.mark.slow
def test_another_search_space_is_refused(tiny: Dataset, begun: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(REPOSITORY / "studies" / "audio_rnn.py", tmp_path))
    whole = file.read_text()
    attempts = states_of(begun)
    for before, after, said in (
        ('"model.layers": (1, 2)', '"model.layers": (2, 1)', "now it is [model.layers is one of (2, 1)]"),
        ("batch_size=64", "batch_size=32", "it was [train.batch_size=64], now it is [train.batch_size=32]"),
        ("(320, 350, 400)", "(320, 350)", "now it is [model.hidden is one of (320, 350)]"),
        ("learning_rate=0.0001", "learning_rate=0.0002", "now it is [train.learning_rate=0.0002]"),
    ):
        assert before in whole
        file.write_text(whole.replace(before, after))
        told = ended(start(command(tiny, begun, study=str(file), epochs=4), tmp_path, {}), code=2)
        assert said in told
        assert states_of(begun) == attempts
        check_whole(begun, trials=2, epochs=4)
    file.write_text(whole)
    ended(start(command(tiny, begun, study=str(file), epochs=4), tmp_path, {}))
    check_whole(begun, epochs=4)


@pytest.mark.slow
def test_other_data_under_the_same_name_and_another_protocol_are_other_studies(
    tiny: Dataset, begun: Path, tmp_path: Path
) -> None:
    tracker = MlflowTracker(begun)
    (old,) = tracker.studies("audio_rnn")
    trials = tracker.trials(old.run_id)
    # One pixel of one picture is another.
    image = tiny.train.banks["image"]
    values = image.values.copy()
    values[0, 0, 0] ^= 1
    banks = {**tiny.train.banks, "image": replace(image, values=values)}
    other = save(replace(tiny, train=replace(tiny.train, banks=banks)), tmp_path / tiny.folder.name)
    assert (other.name, other.digest != tiny.digest) == (tiny.name, True)
    for dataset, protocol in ((other, "clip_disjoint"), (tiny, "as_reported")):
        words = command(dataset, begun, "--protocol", protocol, trials=1, epochs=4)
        ended(start(words, tmp_path, {}))
    assert len({run.key.slug for run in tracker.studies("audio_rnn")}) == 3
    assert tracker.trials(old.run_id) == trials


@pytest.mark.slow
def test_going_on_with_other_versions_is_said_and_recorded(tiny: Dataset, begun: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    for name, version in (("torch", "2.12.9"), ("optuna", "4.9.0")):
        (older / f"{name}-{version}.dist-info").mkdir(parents=True)
        described = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (older / f"{name}-{version}.dist-info" / "METADATA").write_text(described)
    told = ended(start(command(tiny, begun, epochs=4), tmp_path, {"PYTHONPATH": str(older)}))
    complete = check_whole(begun, epochs=4)
    (line,) = [line for line in told.splitlines() if "different code" in line]
    assert "trials 0-1 with torch 2.13" in line
    assert line.endswith("the others with torch 2.12.9, optuna 4.9.0")
    tracker = MlflowTracker(begun)
    (parent,) = tracker.studies("audio_rnn")
    assert parent.tags["mmtune.mixture"] == line
    page = mmtune("report", "audio_rnn", "--store", str(begun), cwd=tmp_path).partition(": ")[2].strip()
    assert line in Path(page).read_text()
    for trial in complete:
        assert ('"torch": "2.12.9"' in trial.tags["mmtune.versions"]) == (trial.number > 1)
