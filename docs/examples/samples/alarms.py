"""A second each of bells, beepers, horns and sirens: `python alarms.py OUT` writes OUT/sounds/LABEL/DEVICE_TAKE.wav.

Made here, not recorded: ten devices, each with a pitch of its own for every alarm, and noise around each take. A device
of the test was never heard in training, so that pitch says nothing and only the shape of a sound does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE, DEVICES, TAKES = 16_000, 10, 6
TIME = np.arange(RATE) / RATE
Wave = NDArray[np.float64]


def bell(pitch: float) -> Wave:
    """Partials that are no multiples of each other, and die away."""
    partials = [np.sin(2 * np.pi * pitch * ratio * TIME) / ratio for ratio in (1.0, 2.76, 5.4)]
    return np.sum(partials, axis=0) * np.exp(-5 * TIME)


def beeper(pitch: float) -> Wave:
    """A tone that is there five times a second."""
    return np.sin(2 * np.pi * pitch * TIME) * (TIME * 5 % 1 < 0.5)


def horn(pitch: float) -> Wave:
    """One low note with all its harmonics."""
    return np.sum([np.sin(np.pi * pitch * number * TIME) / number for number in range(1, 9)], axis=0)


def siren(pitch: float) -> Wave:
    """A tone that wails up and down twice a second."""
    return np.sin(2 * np.pi * pitch * TIME - 0.35 * pitch / 2 * np.cos(2 * np.pi * 2 * TIME))


ALARMS: Mapping[str, Callable[[float], Wave]] = {"bell": bell, "beeper": beeper, "horn": horn, "siren": siren}


def take(label: str, pitch: float, rng: np.random.Generator) -> Wave:
    """A recording (16000,) in [-1, 1]: the alarm begins somewhere in its second, near or far, in a noisy street."""
    sound = np.roll(ALARMS[label](pitch), rng.integers(0, RATE // 4))
    sound = sound / np.abs(sound).max() + rng.normal(0, rng.uniform(0.05, 0.3), RATE)
    return rng.uniform(0.2, 0.9) * sound / np.abs(sound).max()


def write(folder: Path) -> None:
    """240 recordings, and new.wav: the siren of a device that made none of them."""
    rng = np.random.default_rng(0)
    for label in ALARMS:
        (folder / "sounds" / label).mkdir(parents=True, exist_ok=True)
        for device in range(DEVICES):
            pitch = rng.uniform(400, 1_100)
            for turn in range(TAKES):
                path = folder / "sounds" / label / f"device{device}_{turn}.wav"
                soundfile.write(path, take(label, pitch, rng), RATE)
    soundfile.write(folder / "new.wav", take("siren", 700.0, rng), RATE)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
