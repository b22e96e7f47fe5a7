"""An option is of its type, whoever gives it: the command line reads texts, Python gives anything."""

from __future__ import annotations

from typing import Any

import pytest

from mmtune.base.errors import InputError
from mmtune.study.options import Options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"keep": 5}, "--keep must be of type str, got 5"),
        ({"device": 0}, "--device must be of type str, got 0"),
        ({"protocol": 3}, "--protocol must be of type str or nothing, got 3"),
        ({"store_patience": "x"}, "--store-patience must be of type float, got 'x'"),
        ({"hours": 0}, "--hours must be above 0 and at most 10000, got 0"),
        ({"hours": float("nan")}, "--hours must be above 0 and at most 10000, got nan"),
        ({"trial_minutes": -1.0}, "--trial-minutes must be above 0 and at most 600000, got -1.0"),
        ({"patience": 0}, "--patience must be a whole number from 1 to 100000, got 0"),
        ({"until": "0.9"}, "--until must be METRIC=NUMBER, such as val_macro_f1=.99, got '0.9'"),
        ({"until": "=1"}, "--until must be METRIC=NUMBER, such as val_macro_f1=.99, got '=1'"),
        ({"until": "x=inf"}, "--until must be METRIC=NUMBER, such as val_macro_f1=.99, got 'x=inf'"),
        ({"hung_after": None}, "--hung-after must be of type float, got None"),
        ({"prune": "no"}, "--prune must be of type bool or nothing, got 'no'"),
        ({"trials": True}, "--trials must be of type int or nothing, got True"),
        ({"threads": 0}, "--threads must be a whole number from 1 to 1000, got 0"),
        ({"threads": 2, "pool": "ray"}, "--threads is of this machine's workers, so --pool must be local, got ray"),
        ({"seed": 1.5}, "--seed must be of type int, got 1.5"),
    ],
)
def test_a_value_of_another_type_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        Options(**given)
    assert str(error.value) == said


def test_a_whole_number_of_seconds_is_one() -> None:
    assert Options(store_patience=5, checkpoint_every=0).store_patience == 5
