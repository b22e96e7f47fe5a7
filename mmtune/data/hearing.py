"""librosa, imported where it is needed: it takes a second, and a folder for what it compiles."""

from __future__ import annotations

from typing import Any

from mmtune.base.errors import InputError


def load_librosa() -> Any:
    """The package, with what is used of it; InputError where there is no folder that it can write to."""
    import librosa

    try:
        # It imports its parts when they are first named, and compiles them then.
        _ = librosa.feature.melspectrogram, librosa.util.frame, librosa.resample
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            "NUMBA_CACHE_DIR must name a folder that can be written, as neither the user's cache folder nor librosa's "
            f"own can be: {reason}"
        ) from error
    return librosa
