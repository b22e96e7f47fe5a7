"""Speech by espeak-ng, run as a program of its own: `python -m mmtune.data.bundled.espeak OUT.npz < utterances.json`.

The library keeps state from one utterance to the next (its noise generator for one), so only a fresh process
that speaks a fixed list in a fixed order says the same samples every time. It opens no audio device.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# constants of espeak-ng's speak_lib.h
SYNCHRONOUS, DONT_EXIT, CHARS_UTF8 = 2, 0x8000, 1
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
LOUDNESS = 40  # of 100: some voices overdrive at the full volume
SEED = 1
LONGEST_PATH = 120  # the library cuts its data path at 160 characters, names of files included


class Utterance(NamedTuple):
    """A word, the voice (accent+variant), words a minute, and pitch and pitch range in 0..99."""

    word: str
    voice: str
    rate: int
    pitch: int
    range: int


def speak(utterances: Sequence[Utterance]) -> tuple[list[NDArray[np.int16]], int]:
    """Samples of every utterance and their rate in Hz, from a fresh process."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.curdir for p in sys.path)}
    with tempfile.TemporaryDirectory(prefix="mmtune-") as scratch:
        out, plan = Path(scratch) / "speech.npz", json.dumps(utterances)
        command = [sys.executable, "-m", "mmtune.data.bundled.espeak", str(out)]
        done = subprocess.run(command, input=plan, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"espeak-ng ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
        with np.load(out, allow_pickle=False) as archive:
            return np.split(archive["samples"], np.cumsum(archive["lengths"])[:-1]), int(archive["rate"])


def known_accents() -> set[str]:
    """The languages and accents that the library has."""
    import espeakng_loader

    # It takes any name for a voice, and speaks as usual where it has none of that name.
    return {path.name.lower() for path in (Path(espeakng_loader.get_data_path()) / "lang").rglob("*") if path.is_file()}


class Espeak:
    """The library, loaded and ready; one of it in a process."""

    def __init__(self, data: Path) -> None:
        import espeakng_loader

        self.lib: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate = int(self.lib.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), DONT_EXIT))
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng could not read its data in {data}")
        self.heard: list[NDArray[np.int16]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = kind(self.hear)  # kept, or it would be collected while the library still calls it
        self.lib.espeak_SetSynthCallback(self.callback)

    def hear(self, samples: Any, count: int, events: object) -> int:
        if samples and count > 0:
            self.heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, utterance: Utterance) -> NDArray[np.int16]:
        """The samples of one utterance."""
        self.heard.clear()
        if self.lib.espeak_SetVoiceByName(utterance.voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {utterance.voice!r}")
        settings = {VOLUME: LOUDNESS, RATE: utterance.rate, PITCH: utterance.pitch, RANGE: utterance.range}
        for parameter, value in settings.items():
            self.lib.espeak_SetParameter(parameter, value, 0)
        self.lib.espeak_ng_SetRandSeed(ctypes.c_long(SEED))  # it begins with the time of day
        text = utterance.word.encode()
        if self.lib.espeak_Synth(text, len(text) + 1, 0, 1, 0, CHARS_UTF8, None, None) or not self.heard:
            raise RuntimeError(f"espeak-ng said nothing for {utterance}")
        return np.concatenate(self.heard)


def main(out: Path) -> None:
    """Speak the utterances that standard input has as JSON into a .npz file."""
    import espeakng_loader

    data = Path(espeakng_loader.get_data_path())
    with tempfile.TemporaryDirectory(prefix="mmtune-") as short:
        if len(os.fsencode(data)) > LONGEST_PATH:
            link = Path(short) / data.name
            link.symlink_to(data, target_is_directory=True)
            data = link
        espeak = Espeak(data)
        spoken = [espeak.say(Utterance(*fields)) for fields in json.load(sys.stdin)]
    lengths = np.array([len(samples) for samples in spoken], np.int64)
    np.savez(out, samples=np.concatenate(spoken), lengths=lengths, rate=np.int64(espeak.rate))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
