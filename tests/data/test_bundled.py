"""The bundled sample: really made here, the same every time, by whoever asks and however often."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmtune.base.errors import InputError
from mmtune.data.bundled.espeak import Utterance, speak
from mmtune.data.bundled.sample import cache_folder, sample_folder
from mmtune.data.dataset import Dataset
from mmtune.data.forms import Mfcc
from mmtune.data.media.features import mfcc
from mmtune.data.storage.store import load

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def sample(seed: int, cache: Path) -> Dataset:
    return load(sample_folder(seed, cache))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dataset(cache: Path) -> Dataset:
    return sample(0, cache)


def test_it_is_as_large_and_varied_as_promised(dataset: Dataset) -> None:
    train, test = dataset.train, dataset.require_test()
    assert (len(train), len(test)) == (1500, 297)
    assert sum(len(part.banks["audio"].values) for part in (train, test)) >= 1000
    speakers = [set(part.groups["speaker"]) for part in (train, test)]
    assert len(speakers[0]) >= 30
    assert not speakers[0] & speakers[1]
    voices = [[name.split("_")[1] for name in np.unique(part.groups["recording"])] for part in (train, test)]
    accents = [{name.split("+")[0] for name in own} for own in voices]
    assert not accents[0] & accents[1]
    assert min(map(len, accents)) >= 3
    for part in (train, test):
        assert np.all(np.bincount(part.labels, minlength=10) >= 29)


def test_every_clip_is_a_sound_of_its_own(dataset: Dataset) -> None:
    for bank in ("waveform", "audio"):
        values = np.concatenate([part.banks[bank].values for part in (dataset.train, dataset.require_test())])
        assert len({value.tobytes() for value in values}) == len(values)
    levels = np.abs(dataset.train.banks["waveform"].values.astype(np.int32))
    assert levels.max(axis=1).min() > 1000
    assert ((levels >= 32767).sum(axis=1) < 10).all()  # none is overdriven


def test_every_clip_is_used_once_before_any_is_used_twice(dataset: Dataset) -> None:
    for part in (dataset.train, dataset.require_test()):
        index = part.banks["audio"].index
        for digit in range(10):
            _, times = np.unique(index[part.labels == digit], return_counts=True)
            assert times.max() - times.min() <= 1
        assert len(np.unique(index)) == len(part.banks["audio"].values)


def test_its_features_are_those_of_its_waveforms(dataset: Dataset) -> None:
    raw = mfcc(dataset.train.banks["waveform"].values)
    assert Mfcc().fit(raw) == dataset.forms["audio"]
    assert np.array_equal(dataset.forms["audio"].scaled(raw), dataset.train.banks["audio"].values)


def test_both_modalities_can_be_learned_by_speakers_never_heard_but_not_at_once(dataset: Dataset) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    train, test = dataset.train, dataset.require_test()
    for bank in ("image", "audio"):
        ours, theirs = (part.banks[bank].of_rows(np.arange(len(part))).reshape(len(part), -1) for part in (train, test))
        assert 0.5 < KNeighborsClassifier(1).fit(ours, train.labels).score(theirs, test.labels) < 0.95


def test_nothing_is_digital_silence(dataset: Dataset) -> None:
    waves = dataset.train.banks["waveform"].values
    assert all(wave.reshape(20, -1).std(axis=1).min() > 0 for wave in waves.astype(np.float64))


@pytest.mark.slow
def test_a_seed_is_always_the_same_sample(dataset: Dataset, tmp_path: Path) -> None:
    again = sample(0, tmp_path)
    assert again.digest == dataset.digest
    files = sorted(path.relative_to(dataset.folder) for path in dataset.folder.rglob("*.*"))
    assert len(files) > 10
    for name in files:
        assert (again.folder / name).read_bytes() == (dataset.folder / name).read_bytes(), name


def test_the_second_time_nothing_is_made(dataset: Dataset, cache: Path) -> None:
    told: list[str] = []
    before = (dataset.folder / "manifest.json").stat().st_mtime_ns
    assert sample_folder(0, cache, lambda what, done, total: told.append(what)) == dataset.folder
    assert told == []
    assert (dataset.folder / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_damaged_cache_is_made_again(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / dataset.folder.name
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    told: list[str] = []
    made = sample_folder(0, tmp_path, lambda what, done, total: told.append(what))
    assert load(made).digest == dataset.digest
    assert told


@pytest.mark.slow
def test_another_seed_is_another_sample(dataset: Dataset, tmp_path: Path) -> None:
    other = sample(1, tmp_path)
    assert other.digest != dataset.digest
    assert set(other.require_test().groups["speaker"]) != set(dataset.require_test().groups["speaker"])


@pytest.mark.slow
def test_two_at_once_both_end_well_from_any_main(dataset: Dataset, tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from mmtune.data.bundled.sample import sample_folder, load\n"
    program += "print(load(sample_folder(0, Path(sys.argv[1]))).digest)"  # unguarded, and read from standard input
    command = [sys.executable, "-", str(tmp_path)]
    started = []
    for _ in range(2):
        made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        assert made.stdin is not None
        made.stdin.write(program)
        made.stdin.close()
        started.append(made)
    for made in started:
        assert made.stdout is not None
        assert made.stdout.read().strip() == dataset.digest
        assert made.wait() == 0
    assert [path.name for path in tmp_path.iterdir()] == [dataset.folder.name]


@pytest.mark.slow
def test_killed_half_way_it_leaves_nothing_half_written(dataset: Dataset, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mmtune.data.bundled.sample import sample_folder\n"
        "sample_folder(0, Path(sys.argv[1]), lambda what, done, total: print(what, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as made:
        assert made.stdout is not None
        for line in made.stdout:
            if line.strip() == "writing":
                time.sleep(0.02)
                made.send_signal(signal.SIGKILL)
    assert sample(0, tmp_path).digest == dataset.digest


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file") as caught:
        sample_folder(0, tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mmtune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "mmtune"


def test_an_unknown_voice_is_an_error_not_another_voice() -> None:
    with pytest.raises(RuntimeError, match="no voice 'nobody'"):
        speak([Utterance(word="one", voice="nobody", rate=150, pitch=50, range=50)])
