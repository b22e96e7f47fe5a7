"""Garbage is of the forms that a model of digits reads, the same for a seed, and of no other form."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import garbage
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.forms import Digit, Form, Mfcc, Speech


@pytest.mark.parametrize(("bank", "form"), [("image", Digit()), ("speech", Speech())])
def test_every_kind_is_values_of_the_form_and_the_same_for_a_seed(
    bank: str, form: Form, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "COUNT", 4)
    goods = tiny.train.banks[bank].values[:40]
    found, again = (garbage.values_of(form, goods, np.random.default_rng(3)) for _ in range(2))
    kinds = garbage.PICTURES if bank == "image" else {**garbage.RECORDINGS, "other words": None}
    assert found.keys() == kinds.keys()
    for name, values in found.items():
        assert (values.shape, values.dtype) == ((4, *form.shape), np.dtype(form.dtype)), name
        assert len(np.unique(values, axis=0)) == 4, name
        np.testing.assert_array_equal(values, again[name])


def test_of_other_forms_there_is_none() -> None:
    with pytest.raises(InputError, match="pictures of digits and of waveforms, the model reads mfcc"):
        garbage.values_of(Mfcc(), np.zeros((3, 39, 13), np.float32), np.random.default_rng(0))
