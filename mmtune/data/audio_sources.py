"""Folders of recordings to training and test recordings: what the names of files say, and their samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import MEBIBYTE, read_bounded
from mmtune.base.errors import InputError
from mmtune.data.checks import require_classes_present
from mmtune.data.dataset import Progress
from mmtune.data.digits import DIGITS, NAMES, WORDS
from mmtune.data.drawing import TEST_SHARE, drawn
from mmtune.data.image_sources import folders
from mmtune.data.protocols import best_groups
from mmtune.data.recordings import SAMPLE_RATE, at_rate, read_wav, to_int16

# Of each naming what it looks like, and the same for a path below the source without its suffix.
NAMINGS = {
    "FSDD": ("{digit}_{speaker}_{index}", "(?P<digit>[0-9])_(?P<speaker>[^/]+)_(?P<index>[0-9]+)"),
    "AudioMNIST": ("{speaker}/{digit}_{speaker}_{take}", "(?P<speaker>[^/]+)/(?P<digit>[0-9])_(?P=speaker)_[0-9]+"),
    "Speech Commands": (
        "{word}/{speaker}_nohash_{take}",
        f"(?P<digit>(?i:{'|'.join(WORDS)}))/(?P<speaker>[0-9a-f]+)_nohash_[0-9]+",
    ),
    "label/*.wav": ("{label}/*", f"(?P<digit>(?i:[0-9]|{'|'.join(WORDS)}))/[^/]+"),
}
FSDD_TEST_INDICES = 5  # by the convention of FSDD: index 0..4
LONGEST_LIST = 64 * MEBIBYTE


class Recordings(NamedTuple):
    """waveforms (M, 16000) int16; labels (M,) int64 in 0..9; speaker (M,) str, "" where unknown; clip_id (M,) str."""

    waveforms: NDArray[np.int16]
    labels: NDArray[np.int64]
    speaker: NDArray[np.str_]
    clip_id: NDArray[np.str_]

    def take(self, chosen: NDArray[Any]) -> Recordings:
        return Recordings(*(column[chosen] for column in self))


class Named(NamedTuple):
    """One recording. clip_id: its path below the source; test: None where the naming does not say."""

    path: Path
    clip_id: str
    digit: int
    speaker: str
    test: bool | None


def read_recordings(folder: Path, seed: int, report: Progress) -> tuple[Recordings, Recordings, dict[str, Any]]:
    """Training and test recordings of a folder, and how they were recognised.

    Raises InputError on an unknown naming, on a digit without recordings, and on the first file that is no recording.
    """
    naming, named, ignored = recognise(folder)
    labels, speaker = np.array([n.digit for n in named], np.int64), np.array([n.speaker for n in named])
    require_classes_present(folder, labels, DIGITS, "recordings")
    test, rule = hold_out(named, labels, speaker, seed)
    for side, mask in (("training", ~test), ("test", test)):
        require_classes_present(folder, labels[mask], DIGITS, f"{side} recordings ({rule})")
    waveforms = np.empty((len(named), SAMPLE_RATE), np.int16)
    for position, recording in enumerate(named):
        waveforms[position] = to_int16(at_rate(*read_wav(recording.path)))
        report("recordings", position + 1, len(named))
    recordings = Recordings(waveforms, labels, speaker, np.array([n.clip_id for n in named]))
    facts = {
        "naming": naming,
        "partition": rule,
        "train": int((~test).sum()),
        "test": int(test.sum()),
        "speakers": len(set(speaker.tolist()) - {""}),
        "ignored": ignored,
    }
    return recordings.take(~test), recordings.take(test), facts


def hold_out(
    named: Sequence[Named], labels: NDArray[np.int64], speaker: NDArray[np.str_], seed: int
) -> tuple[NDArray[np.bool_], str]:
    """Which recordings are for the test, (M,) bool, and by what rule: their own, or drawn by speaker or recording."""
    if all(n.test is not None for n in named):
        return np.array([bool(n.test) for n in named]), "its own"
    if np.all(speaker != ""):
        return best_groups(speaker, labels, seed, TEST_SHARE), f"speaker-disjoint, seed {seed}"
    return drawn(labels, seed), f"drawn by recording, seed {seed}"


def recognise(folder: Path) -> tuple[str, list[Named], int]:
    """The naming of a folder's recordings, these sorted by path, and how many files have no part in it.

    The recordings of FSDD may lie in `recordings/`, AudioMNIST's in `data/`. Raises InputError where no naming
    fits, or fits some files of a folder only.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is missing"
        raise InputError(f"{folder}: must be a folder of recordings, {found}")
    for root in (folder / "recordings", folder / "data", folder):
        files = [path for inner in (root, *folders(root)) for path in wavs(inner)] if root.is_dir() else []
        for naming in NAMINGS:
            if named := read_names(root, files, naming):
                return naming, named, len(files) - len(named)
    raise InputError(
        f"{folder}: recordings must be named as in FSDD, Speech Commands or AudioMNIST, or lie in label/*.wav; none is"
    )


def wavs(folder: Path) -> list[Path]:
    """The .wav files right in a folder, sorted, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".wav" and not p.name.startswith("."))


def read_names(root: Path, files: Sequence[Path], naming: str) -> list[Named]:
    """The recordings in all folders with a file that is named so; InputError where others lie among them."""
    form, pattern = NAMINGS[naming]
    ids = {path: path.relative_to(root).with_suffix("").as_posix() for path in files}
    matches = {path: re.fullmatch(pattern, clip_id) for path, clip_id in ids.items()}
    homes = {path.parent for path, match in matches.items() if match}
    listed = testing_list(root / "testing_list.txt") if naming == "Speech Commands" and homes else None
    named: list[Named] = []
    for path, match in matches.items():
        if match:
            own = match.groupdict(default="")
            test = None if listed is None else ids[path] in listed
            test = int(own["index"]) < FSDD_TEST_INDICES if "index" in own else test
            named.append(Named(path, ids[path], NAMES[own["digit"].lower()], own.get("speaker", ""), test))
        elif path.parent in homes:
            raise InputError(f"{path}: must be named as the other recordings of {naming}, {form}.wav")
    return named


def testing_list(path: Path) -> set[str] | None:
    """The clip ids that a testing_list.txt names, which are the test partition; None without one."""
    if not path.is_file():
        return None
    try:
        lines = read_bounded(path, LONGEST_LIST).decode().split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be a text file of one recording a line: {error}") from error
    return {line.strip().removesuffix(".wav") for line in lines if line.strip()}
