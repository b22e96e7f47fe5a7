"""Two studies have one key exactly where their trials can be compared."""

from __future__ import annotations

from typing import Any

from mmtune.study import StudyKey


def test_studies_differ_exactly_where_their_trials_cannot_be_compared() -> None:
    facts: dict[str, Any] = {
        "study": "a", "data": "d", "digest": "0123456789", "protocol": "as_reported",
        "seed": 0, "epochs": 3, "sampler": "grid", "prune": False, "fixed": (), "encoders": (),
    }  # fmt: skip
    changed = {
        "study": "b", "data": "e", "digest": "1123456789", "protocol": "clip_disjoint",
        "seed": 1, "epochs": 4, "sampler": "tpe", "prune": True, "fixed": (("model.layers", 1),),
        "encoders": (("image", "0a1b2c3d4e"),),
    }  # fmt: skip
    slugs = {StudyKey(**{**facts, name: changed[name]}).slug for name in changed}
    assert len(slugs | {StudyKey(**facts).slug}) == len(changed) + 1
    assert all("/" not in slug and " " not in slug for slug in slugs)
    long = [StudyKey(**{**facts, "fixed": (("model.x", n * "x"),)}).slug for n in (300, 301)]
    assert long[0] != long[1]
    assert all(len(slug) < 200 for slug in long)
