"""One coordinator a study where several machines share a store: no lock says so, signs of life do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mmtune.base.errors import AwayError, InputError
from mmtune.study import StudyKey
from mmtune.tracking import Heartbeat, MlflowTracker, StudyRun, TakenOverError, heartbeat
from mmtune.tracking.heartbeat import BEAT_SECONDS, PAUSE_SECONDS, SILENCE_SECONDS, TAG

KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)


class Clock:
    """Time that passes only where somebody waits; meanwhile others do what they do."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.meanwhile: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(heartbeat, "time", made)
    return made


@pytest.fixture(params=["store", pytest.param("shared_store", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that every machine sees under one path, with its runs in a store beside it."""
    folder: Path = request.getfixturevalue(request.param)
    if request.param == "store":
        (folder / "mlflow.db").rename(folder.parent / "shared.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder.parent / 'shared.db'}")
    return folder


def note(machine: str) -> str:
    return f"pid 7 on {machine} since yesterday"


def beat_of(root: Path, machine: str) -> Heartbeat:
    return Heartbeat(MlflowTracker(root), KEY.slug, note(machine))


def found(own: Heartbeat) -> StudyRun | None:
    return next(iter(own.tracker.studies(KEY.study)), None)


def opened(own: Heartbeat) -> str:
    """What a coordinator does before its first trial."""
    own.require_free(found(own))
    parent = own.tracker.open_study(KEY, {})
    own.begin(parent)
    return parent


def test_a_second_coordinator_is_refused_while_the_first_one_beats(root: Path, clock: Clock) -> None:
    first, second = beat_of(root, "ada"), beat_of(root, "bob")
    opened(first)
    clock.meanwhile = first.beat
    before = clock.now
    with pytest.raises(InputError, match=f"already runs.*: {note('ada')}"):
        second.require_free(found(second))
    assert clock.now - before <= BEAT_SECONDS + 2 * PAUSE_SECONDS < SILENCE_SECONDS
    first.beat()
    assert first.parent


def test_a_second_coordinator_takes_over_when_the_first_is_silent_which_then_writes_no_more(
    root: Path, clock: Clock
) -> None:
    first, second = beat_of(root, "ada"), beat_of(root, "bob")
    parent, before = opened(first), clock.now
    assert opened(second) == parent
    assert clock.now - before >= SILENCE_SECONDS
    tag = second.tracker.tag(parent, TAG)
    assert note("bob") in tag
    with pytest.raises(TakenOverError, match=f"was taken over: {note('bob')}"):
        first.beat()
    # It neither beats on nor takes the other one's sign away.
    clock.now += 2 * BEAT_SECONDS
    first.beat()
    first.end()
    assert second.tracker.tag(parent, TAG) == tag
    second.beat()
    assert second.tracker.tag(parent, TAG) != tag


def test_a_sign_of_life_is_given_no_more_often_than_said(root: Path, clock: Clock) -> None:
    own = beat_of(root, "ada")
    opened(own)
    own.beat()
    beats = own.beats
    clock.now += BEAT_SECONDS - 0.1
    own.beat()
    assert own.beats == beats
    clock.now += 0.1
    own.beat()
    assert own.beats == beats + 1


def test_of_two_that_begin_at_once_one_goes_on(root: Path, clock: Clock) -> None:
    first, second = beat_of(root, "ada"), beat_of(root, "bob")
    parent = first.tracker.open_study(KEY, {})
    went_on: list[str] = []

    def other() -> None:
        clock.meanwhile = lambda: None
        second.begin(parent)
        went_on.append("bob")

    clock.meanwhile = other
    with pytest.raises(TakenOverError, match="taken over"):
        first.begin(parent)
    assert went_on == ["bob"]


def test_of_two_that_begin_a_new_study_at_once_the_first_goes_on_and_one_study_is_left(
    root: Path, clock: Clock
) -> None:
    first, second = beat_of(root, "ada"), beat_of(root, "bob")
    for own in (first, second):
        own.require_free(None)
    here = first.tracker.open_study(KEY, {})
    run, experiment = first.tracker.client.get_run(here), second.tracker.experiment(KEY.study)
    # Neither has seen the other one's run.
    there = second.tracker.begin(experiment, KEY.title, run.info.start_time + 1, run.data.tags)

    def other() -> None:
        clock.meanwhile = lambda: None
        with pytest.raises(TakenOverError, match=f"begun elsewhere at the same time, as run {here}"):
            second.begin(there)

    clock.meanwhile = other
    first.begin(here)
    assert [study.run_id for study in first.tracker.studies()] == [here]
    first.beat()
    second.beat()
    second.end()


def test_whoever_comes_again_to_its_own_folder_does_not_wait(root: Path, clock: Clock) -> None:
    opened(beat_of(root, "ada"))
    again, before = beat_of(root, "ada"), clock.now
    again.require_free(found(again))
    assert clock.now == before


def test_whoever_has_ended_is_not_waited_for(root: Path, clock: Clock) -> None:
    first = beat_of(root, "ada")
    opened(first)
    first.end()
    second, before = beat_of(root, "bob"), clock.now
    second.require_free(found(second))
    assert clock.now == before


def test_a_store_that_is_away_is_somebody_elses_to_tell(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = beat_of(root, "ada")
    opened(own)

    def away(*_: object) -> str:
        raise AwayError("the store", "cut off")

    with monkeypatch.context() as patch:
        patch.setattr(own.tracker, "tag", away)
        own.beat()
    clock.now += BEAT_SECONDS
    own.beat()
    assert own.parent


@pytest.mark.parametrize("rubbish", ["x", "||||", "a|b", "🙂|\n", " "])
def test_a_sign_that_a_hand_has_made_is_none(root: Path, clock: Clock, rubbish: str) -> None:
    first = beat_of(root, "ada")
    parent = opened(first)
    first.tracker.client.set_tag(parent, TAG, rubbish)
    second, before = beat_of(root, "bob"), clock.now
    second.require_free(found(second))
    assert clock.now == before
    first.confirm()


def test_a_folder_whose_name_is_odd_is_a_place_too(root: Path, clock: Clock) -> None:
    root.rename(root.with_name("a|b|c"))
    first, second = (beat_of(root.with_name("a|b|c"), machine) for machine in ("ada", "bob"))
    opened(first)
    clock.meanwhile = first.beat
    with pytest.raises(InputError, match="already runs"):
        second.require_free(found(second))


def test_in_a_folders_own_store_its_lock_is_enough(store: Path, clock: Clock) -> None:
    first, second = beat_of(store, "ada"), beat_of(store, "bob")
    parent = opened(first)
    assert opened(second) == parent
    first.beat()
    second.end()
    assert clock.now == 1_000.0
    assert TAG not in first.tracker.client.get_run(parent).data.tags
