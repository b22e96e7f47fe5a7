"""The laws of every split, under every protocol."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.base.errors import InputError
from mmtune.data.dataset import Partition
from mmtune.data.protocols import PROTOCOLS, Split, folds, leakage, split


def partition(rows: int = 600, speakers: int = 8, per_speaker: int = 3, seed: int = 0) -> Partition:
    """Every speaker says every digit `per_speaker` times; clips are repeated to fill the rows."""
    rng = np.random.default_rng(seed)
    clips = speakers * per_speaker * 10
    digit = np.arange(clips) % 10
    index = rng.permutation(np.resize(np.arange(clips), rows))
    return Partition(
        images=np.zeros((rows, 28, 28), np.uint8),
        clips=rng.random((clips, 39, 13), dtype=np.float32),
        clip_index=index.astype(np.int64),
        labels=digit[index].astype(np.int64),
        speaker=np.array([f"s{c // 10 % speakers}" for c in range(clips)]),
        clip_id=np.arange(clips).astype(str),
    )


def groups(made: Partition, protocol: str) -> np.ndarray:
    """What must not stand on both sides, for each row."""
    if protocol == "speaker_disjoint":
        return np.asarray(made.speaker[made.clip_index])
    return made.clip_index if protocol == "clip_disjoint" else np.arange(len(made))


def assert_lawful(made: Partition, parts: Split, protocol: str) -> None:
    together = np.concatenate([parts.train, parts.validation])
    assert np.array_equal(np.sort(together), np.arange(len(made)))
    assert set(made.labels[parts.train]) == set(made.labels[parts.validation]) == set(range(10))
    side = groups(made, protocol)
    assert not set(side[parts.train]) & set(side[parts.validation])
    for rows in (parts.train, parts.validation):
        assert rows.dtype == np.int64
        assert np.all(np.diff(rows) > 0)


@settings(max_examples=25, deadline=None)
@given(
    protocol=st.sampled_from(PROTOCOLS),
    seed=st.integers(0, 2**32 - 1),
    speakers=st.integers(2, 9),
)
def test_a_split_keeps_its_laws(protocol: str, seed: int, speakers: int) -> None:
    made = partition(speakers=speakers, per_speaker=6)
    parts = split(made, protocol, seed)
    assert_lawful(made, parts, protocol)
    again = split(made, protocol, seed)
    assert np.array_equal(parts.validation, again.validation)
    units = speakers if protocol == "speaker_disjoint" else 10
    assert abs(len(parts.validation) / len(made) - 0.2) <= 1 / units


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_seed_is_another_split(protocol: str) -> None:
    made = partition()
    found = {tuple(split(made, protocol, seed).validation) for seed in range(6)}
    assert len(found) >= 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_classes_keep_their_proportions(protocol: str) -> None:
    made = partition(rows=4000, speakers=10, per_speaker=5)
    counts = np.bincount(made.labels[split(made, protocol, 0).validation])
    assert np.all(np.abs(counts / np.bincount(made.labels) - 0.2) < 0.03)


@pytest.mark.parametrize("k", [2, 5, 8])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_folds_validate_every_row_once(protocol: str, k: int) -> None:
    made = partition()
    parts = folds(made, protocol, k, seed=3)
    assert len(parts) == k
    assert np.array_equal(np.sort(np.concatenate([p.validation for p in parts])), np.arange(len(made)))
    for part in parts:
        assert_lawful(made, part, protocol)
    for ours, again in zip(parts, folds(made, protocol, k, seed=3), strict=True):
        assert np.array_equal(ours.validation, again.validation)


def test_as_many_folds_as_speakers_leave_one_out_each() -> None:
    made = partition()
    for part in folds(made, "speaker_disjoint", 8, seed=0):
        assert len(set(groups(made, "speaker_disjoint")[part.validation])) == 1


def test_leakage_is_what_a_loop_counts() -> None:
    made = partition(rows=400, per_speaker=2)
    parts = split(made, "as_reported", 0)
    seen = set(made.clip_index[parts.train])
    voices = {made.speaker[clip] for clip in seen}
    recording = float(np.mean([clip in seen for clip in made.clip_index[parts.validation]]))
    speaker = float(np.mean([made.speaker[clip] in voices for clip in made.clip_index[parts.validation]]))
    assert leakage(made, parts) == (recording, speaker)
    assert 0.5 < recording < 1
    assert leakage(made, split(made, "clip_disjoint", 0))[0] == 0
    assert leakage(made, split(made, "speaker_disjoint", 0)) == (0, 0)
    unknown = replace(made, speaker=np.full(len(made.clips), ""))
    assert leakage(unknown, parts) == (recording, None)


@pytest.mark.parametrize("call", [split, lambda p, protocol, seed: folds(p, protocol, 3, seed)])
def test_what_cannot_be_split_is_refused(call: object) -> None:
    assert callable(call)
    unknown = replace(partition(), speaker=np.full(240, ""))
    with pytest.raises(InputError, match="needs the speaker of every recording, unknown for 240"):
        call(unknown, "speaker_disjoint", 0)
    with pytest.raises(InputError, match=r"needs at least \d speakers here, got 1"):
        call(partition(speakers=1), "speaker_disjoint", 0)
    with pytest.raises(InputError, match="recordings of every digit, digit 0 has 1"):
        call(partition(speakers=1, per_speaker=1), "clip_disjoint", 0)
    with pytest.raises(InputError, match="protocol must be one of"):
        call(partition(), "random", 0)


def test_a_digit_of_one_speaker_cannot_stand_on_both_sides() -> None:
    made = partition(speakers=4)
    owner = np.where(np.bincount(made.clip_index, made.labels == 7) > 0, "lone", made.speaker)
    with pytest.raises(InputError, match="must leave every digit on both sides"):
        split(replace(made, speaker=owner), "speaker_disjoint", 0)
