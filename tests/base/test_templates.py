"""Words of a page."""

from __future__ import annotations

import pytest

from mmtune.base.templates import begins_large


@pytest.mark.parametrize(("text", "large"), [("MRI, heartRate", "MRI, heartRate"), ("all", "All"), ("", "")])
def test_a_sentence_begins_large_and_names_keep_their_letters(text: str, large: str) -> None:
    assert begins_large(text) == large
