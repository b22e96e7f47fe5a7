"""The laws of every split, under every protocol."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from filesets import refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.base.errors import InputError
from mmtune.data.building.arrays import from_arrays
from mmtune.data.building.drawing import TEST_SHARE, hold_out
from mmtune.data.dataset import RECORDING, SPEAKER, Bank, Partition
from mmtune.data.protocols import (
    PROTOCOLS,
    SHARE,
    Split,
    best_groups,
    evidence,
    folds,
    independent,
    label_of,
    leakage,
    rotated,
    split,
    usual_protocol,
)

ALL = (*PROTOCOLS, "disjoint:content", "disjoint:patient")


def partition(rows: int = 600, speakers: int = 8, per_speaker: int = 3, seed: int = 0, classes: int = 10) -> Partition:
    """Every speaker says every class `per_speaker` times; recordings are repeated to fill the rows."""
    rng = np.random.default_rng(seed)
    count = speakers * per_speaker * classes
    index = rng.permutation(np.resize(np.arange(count), rows))
    values = np.arange(count, dtype=np.float32)[:, None] + np.zeros(20, np.float32)
    return Partition(
        banks={
            "image": Bank(values=rng.integers(0, 255, (rows, 8, 8), np.uint8), index=np.arange(rows)),
            "audio": Bank(values=values, index=index),
        },
        labels=index % classes,
        groups={
            RECORDING: index.astype(str),
            SPEAKER: np.array([f"s{one // classes % speakers}" for one in index]),
            "patient": np.array([f"p{one // classes % speakers // 2}" for one in index]),
        },
    )


def kept_apart(made: Partition, protocol: str) -> np.ndarray:
    """What must not stand on both sides, for each row."""
    group = {"speaker_disjoint": SPEAKER, "disjoint:patient": "patient"}.get(protocol, RECORDING)
    return np.arange(len(made)) if protocol == "as_reported" else made.groups[group]


def assert_lawful(made: Partition, parts: Split, protocol: str) -> None:
    together = np.concatenate([parts.train, parts.validation])
    assert np.array_equal(np.sort(together), np.arange(len(made)))
    assert set(made.labels[parts.train]) == set(made.labels[parts.validation]) == set(made.labels)
    side = kept_apart(made, protocol)
    assert not set(side[parts.train]) & set(side[parts.validation])
    for rows in (parts.train, parts.validation):
        assert rows.dtype == np.int64
        assert np.all(np.diff(rows) > 0)


@settings(max_examples=25, deadline=None)
@given(
    protocol=st.sampled_from(ALL),
    seed=st.integers(0, 2**32 - 1),
    speakers=st.integers(3, 9),
    classes=st.sampled_from([2, 10, 40]),
)
def test_a_split_keeps_its_laws(protocol: str, seed: int, speakers: int, classes: int) -> None:
    made = partition(speakers=speakers, per_speaker=6, classes=classes, rows=800)
    parts = split(made, protocol, seed)
    assert_lawful(made, parts, protocol)
    assert np.array_equal(parts.validation, split(made, protocol, seed).validation)
    units = {"speaker_disjoint": speakers, "disjoint:patient": (speakers + 1) // 2}.get(protocol, 10)
    assert abs(len(parts.validation) / len(made) - SHARE) <= 1 / units


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_seed_is_another_split(protocol: str) -> None:
    made = partition()
    assert len({tuple(split(made, protocol, seed).validation) for seed in range(6)}) >= 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_classes_keep_their_proportions(protocol: str) -> None:
    made = partition(rows=4000, speakers=10, per_speaker=5)
    counts = np.bincount(made.labels[split(made, protocol, 0).validation])
    assert np.all(np.abs(counts / np.bincount(made.labels) - SHARE) < 0.03)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("protocol", ALL)
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
        assert len(set(made.groups[SPEAKER][part.validation])) == 1


def test_rotated_folds_are_held_once_and_choose_nothing() -> None:
    made = partition()
    turned = rotated(folds(made, "clip_disjoint", 4, seed=0))
    held = [part.held for part in turned if part.held is not None]
    assert np.array_equal(np.sort(np.concatenate(held)), np.arange(len(made)))
    for part in turned:
        assert part.held is not None
        everything = np.concatenate([part.train, part.validation, part.held])
        assert np.array_equal(np.sort(everything), np.arange(len(made)))
    assert "folds must be a whole number from 3" in refusal(lambda: rotated(turned[:2]))


@settings(max_examples=15, deadline=None)
@given(protocol=st.sampled_from(PROTOCOLS), seed=st.integers(0, 99))
def test_rows_there_twice_are_never_parted(protocol: str, seed: int) -> None:
    made = partition(rows=300)
    twice = made.take(np.tile(np.arange(300), 2))
    parts = split(twice, protocol, seed)
    assert not set(parts.train % 300) & set(parts.validation % 300)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), group=st.sampled_from(["", SPEAKER, "patient"]))
def test_a_drawn_test_keeps_groups_and_content_apart(seed: int, group: str) -> None:
    made = partition()
    mask = hold_out(made, TEST_SHARE, group, seed)
    assert not set(made.groups[group or RECORDING][mask]) & set(made.groups[group or RECORDING][~mask])
    assert set(made.labels[mask]) == set(made.labels[~mask]) == set(range(10))
    assert hold_out(made, 0, group, seed).sum() == 0


def test_leakage_is_what_a_loop_counts() -> None:
    made = partition(rows=400, per_speaker=2)
    parts = split(made, "as_reported", 0)
    for name, own in (*made.groups.items(), ("equal audio", made.banks["audio"].index)):
        seen = set(own[parts.train].tolist())
        assert leakage(made, parts)[name] == np.mean([one in seen for one in own[parts.validation].tolist()])
    assert 0.5 < leakage(made, parts)[RECORDING] < 1
    assert leakage(made, split(made, "clip_disjoint", 0))[RECORDING] == 0
    apart = leakage(made, split(made, "speaker_disjoint", 0))
    assert apart[RECORDING] == apart[SPEAKER] == apart["equal audio"] == 0
    unknown = replace(made, groups={**made.groups, SPEAKER: np.full(400, "")})
    assert SPEAKER not in leakage(unknown, parts)


def test_rows_that_have_nothing_in_a_bank_leak_nothing() -> None:
    made = partition(rows=400, per_speaker=2)
    index = made.banks["audio"].index.copy()
    index[::2] = -1
    lacking = replace(made, banks={**made.banks, "audio": replace(made.banks["audio"], index=index)})
    parts = split(lacking, "disjoint:content", 0)
    assert (index[parts.validation] < 0).any()
    assert (index[parts.train] < 0).any()
    assert leakage(lacking, parts)["equal audio"] == 0


def test_the_usual_protocol_keeps_apart_what_the_test_does_or_recordings_or_content() -> None:
    rows = np.arange(60)
    made = from_arrays(labels=rows % 3, x=rows[:, None] + [0.0, 0.5], groups={"who": rows % 4}, keep_apart="who")
    assert usual_protocol(made) == "disjoint:who"
    parts = split(made.train, usual_protocol(made), 0)
    assert leakage(made.train, parts)["who"] == 0
    assert usual_protocol(replace(made, train=partition(), keep_apart="")) == "clip_disjoint"
    assert usual_protocol(replace(made, keep_apart="")) == "disjoint:content"


def test_a_group_of_one_cannot_be_divided() -> None:
    made = replace(partition(), groups={"who": np.array(["a"] * len(partition()))})
    with pytest.raises(InputError, match="disjoint:who needs at least 2 groups here, got 1"):
        split(made, "disjoint:who", 0)


@pytest.mark.parametrize("call", [split, lambda p, protocol, seed: folds(p, protocol, 3, seed)])
def test_what_cannot_be_split_is_refused(call: object) -> None:
    assert callable(call)
    made = partition()
    unknown = replace(made, groups={**made.groups, SPEAKER: np.where(np.arange(600) < 240, "", "x")})
    for part, protocol, said in (
        (unknown, "speaker_disjoint", "needs the speaker of every row, unknown for 240"),
        (replace(made, groups={}), "clip_disjoint", "needs the group recording, the data set has none"),
        (made, "disjoint:zebra", "needs the group zebra, the data set has recording, speaker, patient"),
        (partition(speakers=1), "speaker_disjoint", "groups here, got 1"),
        (partition(speakers=1, per_speaker=1), "clip_disjoint", "recordings of every class, class 0 has 1"),
        (made, "speaker", "protocol must be one of"),
        (made, "disjoint:a b", "protocol must be one of"),
    ):
        assert said in refusal(lambda part=part, protocol=protocol: call(part, protocol, 0))


def test_a_class_of_one_speaker_cannot_stand_on_both_sides() -> None:
    made = partition(speakers=4)
    owner = np.where(made.labels == 7, "lone", made.groups[SPEAKER])
    alone = replace(made, groups={**made.groups, SPEAKER: owner})
    assert "must leave every class on both sides" in refusal(lambda: split(alone, "speaker_disjoint", 0))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40))
def test_the_label_of_a_unit_is_that_of_most_of_its_rows(rows: list[tuple[int, int]]) -> None:
    _, unit = np.unique([one for one, _ in rows], return_inverse=True)
    labels = np.array([label for _, label in rows])
    expected = [np.argmax(np.bincount(labels[unit == one])) for one in range(unit.max() + 1)]
    assert label_of(unit, labels).tolist() == expected


def test_many_classes_and_units_take_little_memory() -> None:
    import tracemalloc

    labels = np.arange(80_000) % 4096
    tracemalloc.start()
    assert np.array_equal(label_of(np.arange(80_000), labels), labels)
    assert 0 < best_groups(np.arange(80_000) // 20, labels, 0, SHARE).mean() < 0.3
    assert tracemalloc.get_traced_memory()[1] < 300e6
    tracemalloc.stop()


def test_a_few_rows_of_many_classes_can_be_split() -> None:
    made = partition(rows=80, speakers=1, per_speaker=2, classes=40)
    parts = split(made, "clip_disjoint", 0)
    assert_lawful(made, parts, "clip_disjoint")
    assert len(parts.validation) == 40


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ("as_reported", "240 recordings"),
        ("clip_disjoint", "240 recordings"),
        ("disjoint:content", "240 recordings"),
        ("speaker_disjoint", "8 speakers"),
        ("disjoint:patient", "4 patients"),
    ],
)
def test_one_member_of_what_is_kept_apart_is_one_piece_of_evidence(protocol: str, told: str) -> None:
    made = partition()
    kind, unit = independent(made, protocol)
    assert evidence(kind, unit) == told
    for number in np.unique(unit):
        assert len(np.unique(made.groups[kind][unit == number])) == 1


def test_where_nothing_is_known_of_rows_equal_content_is_one_piece_of_evidence() -> None:
    made = replace(partition(), groups={})
    assert evidence(*independent(made, "as_reported")) == "240 samples"


def test_of_a_test_what_training_never_met_comes_first() -> None:
    made = partition()
    speakers = made.groups[SPEAKER]
    training, test = made.take(np.flatnonzero(speakers < "s6")), made.take(np.flatnonzero(speakers >= "s6"))
    assert evidence(*independent(test, "as_reported", training)) == "1 patient"
    known = {name: own for name, own in test.groups.items() if name != "patient"}
    assert evidence(*independent(replace(test, groups=known), "as_reported", training)) == "2 speakers"
    again = made.take(np.arange(0, len(made), 2)), made.take(np.arange(1, len(made), 2))
    assert independent(again[1], "disjoint:patient", again[0])[0] == "patient"
    assert independent(again[1], "clip_disjoint", again[0])[0] == RECORDING


@pytest.mark.parametrize("classes", [("ill", "well"), ("sick", "healthy")])
@pytest.mark.parametrize("protocol", ["random", "disjoint:content"])
def test_a_class_that_is_nowhere_the_most_is_divided_whatever_it_is_called(
    classes: tuple[str, str], protocol: str
) -> None:
    """Of age and sex alone many rows are equal, and of no value are most rows ill."""
    rng = np.random.default_rng(0)
    values = np.stack([rng.integers(20, 40, 600), rng.integers(0, 2, 600)], 1)
    ill = rng.random(600) < 0.1
    made = from_arrays(labels=np.where(ill, *classes), test=False, v=values).train
    for parts in (split(made, protocol, 0), *folds(made, protocol, 3, 0)):
        assert 0 < ill[parts.validation].sum() < ill.sum()
        unit = made.banks["v"].index
        assert not set(unit[parts.train]) & set(unit[parts.validation])


def test_more_folds_than_a_class_has_members_are_refused() -> None:
    made = partition(rows=90, speakers=6, per_speaker=1, classes=3)
    few = replace(made, labels=np.where((made.labels == 2) & (made.groups[SPEAKER] != "s0"), 1, made.labels))
    assert "speaker_disjoint needs at least 3 speakers of every class, class 2 has 1" in refusal(
        lambda: folds(few, "speaker_disjoint", 3, 0)
    )


def test_members_that_equal_content_ties_together_are_said_to_be() -> None:
    made = partition()
    one = Bank(values=np.ones((1, 20), np.float32), index=np.zeros(len(made), np.int64))
    tied = replace(made, banks={"clip": one})
    said = "needs at least 2 groups here, got 1: equal content ties the 4 of patient together"
    assert f"disjoint:patient {said}" in refusal(lambda: split(tied, "disjoint:patient", 0))
    assert f"disjoint:patient {said}" in refusal(lambda: hold_out(tied, TEST_SHARE, "patient", 0))
