"""Asking, telling and resuming on a real journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.base.errors import InputError
from mmtune.study.key import DRAWN
from mmtune.study.space import Categorical, Real, Space
from mmtune.tune.journal import repair_journal
from mmtune.tune.search import ATTEMPTS, Given, Search, derive_seed, make_sampler, open_indices

SPACE: Space = (
    Categorical(path="a", values=("x", "y"), source=""),
    Real(path="b", low=1e-3, high=1.0, log=True, source=""),
)


def open_search(path: Path, space: Space = SPACE, epochs: int = 9, prune: bool = False) -> Search:
    return Search(path / "study.journal", "study", space, {}, epochs, prune)


def finish(search: Search, index: int, score: float, sampler: str = "random") -> dict[str, object]:
    values = search.ask(index, make_sampler(sampler, derive_seed(0, index, 1)))
    search.attach(index, f"run{index}")
    search.tell(index, "COMPLETE", score)
    return dict(values)


@pytest.mark.parametrize("sampler", DRAWN)
def test_every_sampler_draws_inside_the_space_and_repeats_itself_from_its_seed(tmp_path: Path, sampler: str) -> None:
    def run(folder: str) -> list[dict[str, object]]:
        search = open_search(tmp_path / folder)
        return [finish(search, index, score=index / 10, sampler=sampler) for index in range(12)]

    first, second = run("one"), run("two")
    assert first == second
    assert all(c.admits(values[c.path]) for values in first for c in SPACE)
    assert len({values["b"] for values in first}) == len(first)


def test_an_ended_attempt_closes_its_index_and_survives_reopening(tmp_path: Path) -> None:
    finish(open_search(tmp_path), 1, 0.5)
    again = open_search(tmp_path)
    assert list(again.open_indices(3, {"run1"})) == [0, 2]
    assert list(again.open_indices(3, set())) == [0, 1, 2]
    (attempt,) = again.attempts()
    assert (attempt.index, attempt.run_id, attempt.state, attempt.score) == (1, "run1", "COMPLETE", 0.5)


def test_what_is_known_of_attempts_is_what_is_read_back(tmp_path: Path) -> None:
    search = open_search(tmp_path, prune=True)
    finish(search, 0, 0.5)
    for index, ended in ((1, ("FAIL", None, False, True)), (1, ("FAIL", None, True, False)), (2, ("PRUNED", 0.1))):
        search.ask(index, make_sampler("random", index))
        search.attach(index, f"run{index}")
        search.report(index, 1, 0.1)
        search.tell(index, *ended)
    search.ask(3, make_sampler("random", 3))
    assert list(open_search(tmp_path, prune=True).attempts()) == list(search.attempts())
    search.attach(3, "run3")
    assert list(open_search(tmp_path, prune=True).attempts()) == list(search.attempts())


def test_an_interrupted_attempt_is_made_again_with_its_own_values(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    values = search.ask(0, make_sampler("random", 7))
    search.attach(0, "run0")
    del search
    again = open_search(tmp_path)
    (stale,) = again.attempts()
    assert stale.state == "RUNNING"
    again.settle(stale.id, "FAIL", None, interrupted=True)
    assert again.open_indices(1, set()) == {0: values}
    assert again.ask(0, Given(values)) == values


@pytest.mark.parametrize(("retry", "tries"), [(True, ATTEMPTS), (False, 1)])
def test_a_failure_is_retried_only_where_that_makes_sense(tmp_path: Path, retry: bool, tries: int) -> None:
    search = open_search(tmp_path)
    for attempt in range(tries):
        assert 0 in search.open_indices(1, set()), attempt
        search.ask(0, make_sampler("random", 0))
        search.attach(0, f"run{attempt}")
        search.tell(0, "FAIL", None, retry=retry)
    assert search.open_indices(1, set()) == {}


def test_interruptions_do_not_use_up_attempts(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    for _ in range(3 * ATTEMPTS):
        search.ask(0, make_sampler("random", 0))
        search.tell(0, "FAIL", None, interrupted=True)
    assert 0 in open_indices(search.attempts(), 1)


def test_a_torn_last_line_costs_that_line_only(tmp_path: Path) -> None:
    for index in range(3):
        finish(open_search(tmp_path), index, index / 10)
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    for cut in (1, 7, 25):
        journal.write_bytes(whole + whole[:40][:-cut])
        finish(open_search(tmp_path), 3, 0.9)
        scores = {a.index: a.score for a in open_search(tmp_path).attempts()}
        assert scores == {0: 0.0, 1: 0.1, 2: 0.2, 3: 0.9}
        journal.write_bytes(whole)
    assert repair_journal(journal) == 0


def test_a_lock_left_by_a_killed_process_does_not_hold_anyone_up(tmp_path: Path) -> None:
    finish(open_search(tmp_path), 0, 0.1)
    (tmp_path / "study.journal.lock").symlink_to(tmp_path / "study.journal")
    finish(open_search(tmp_path), 1, 0.2)
    assert len(open_search(tmp_path).attempts()) == 2


def test_a_changed_space_is_refused_by_what_changed(tmp_path: Path) -> None:
    open_search(tmp_path)
    changed = (Categorical(path="a", values=("x", "z"), source=""), SPACE[1])
    with pytest.raises(InputError, match=r"was \[a  \{x, y\}.*now it is \[a  \{x, z\}") as caught:
        open_search(tmp_path, changed)
    assert "\n" not in str(caught.value)
    open_search(tmp_path)


def test_seeds_follow_from_the_index_alone_and_differ() -> None:
    seeds = [derive_seed(study, index) for study in range(20) for index in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [derive_seed(study, index) for study in range(20) for index in range(50)]
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_hopeless_trial_is_pruned_and_a_good_one_is_not(tmp_path: Path) -> None:
    search = open_search(tmp_path, epochs=9, prune=True)
    assert search.rungs == {1, 3}
    verdicts = {}
    for index, score in enumerate([0.9, 0.8, 0.85, 0.1, 0.95]):
        search.ask(index, make_sampler("random", index))
        verdicts[score] = search.report(index, 1, score)
        search.tell(index, "COMPLETE" if verdicts[score] else "PRUNED", score)
    assert verdicts[0.9]
    assert verdicts[0.95]
    assert not verdicts[0.1]
    assert open_search(tmp_path, epochs=9, prune=True).halving.scores[1] == sorted(verdicts)
