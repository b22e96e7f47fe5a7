"""What the names of files say: digit, speaker, and whether a recording is for the test."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmtune.base.bounds import MEBIBYTE, read_bounded
from mmtune.base.errors import InputError

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLAIN = re.compile(r"(\d)_(.+)_(\d+)")  # FSDD and AudioMNIST: digit, speaker, index or take
NOHASH = re.compile(r"([0-9a-f]+)_nohash_(\d+)")  # Speech Commands: speaker, take
LONGEST_LIST = 64 * MEBIBYTE
FSDD_TEST_INDICES = 5  # by the convention of FSDD: index 0..4


@dataclass(frozen=True, kw_only=True)
class Named:
    """One recording. clip_id: its path below the source; test: None where the naming does not say."""

    path: Path
    clip_id: str
    digit: int
    speaker: str
    test: bool | None


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The recordings of a source, sorted by path. ignored: files of words that are no digits."""

    naming: str
    recordings: tuple[Named, ...]
    ignored: int = 0


def digit_of(name: str) -> int | None:
    """The digit that a folder's name stands for, "7" or "seven"; None if it is neither."""
    if len(name) == 1 and name in "0123456789":
        return int(name)
    return WORDS.index(name.lower()) if name.lower() in WORDS else None


def recognise(folder: Path) -> Catalogue:
    """The recordings in a folder, by the naming of FSDD, AudioMNIST or Speech Commands, or any `label/*.wav`.

    The recordings of FSDD may lie in `recordings/`, AudioMNIST's in `data/`. Raises InputError where no naming
    fits, or fits some files only.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: must be a folder of recordings, {'is a file' if folder.exists() else 'is missing'}"
        )
    roots = [root for root in (folder / "recordings", folder / "data", folder) if root.is_dir()]
    readers: tuple[Callable[[Path], Catalogue | None], ...] = (fsdd, audio_mnist, speech_commands, labelled)
    for root in roots:
        for reader in readers:
            found = reader(root)
            if found is not None:
                return found
    raise InputError(
        f"{folder}: recordings must be named as in FSDD, Speech Commands or AudioMNIST, or lie in label/*.wav; none is"
    )


def wavs(folder: Path) -> list[Path]:
    """The .wav files right in a folder, sorted, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".wav" and not p.name.startswith("."))


def folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def match_all(files: list[Path], pattern: re.Pattern[str], naming: str) -> list[re.Match[str]] | None:
    """A match for every file, None if there is none for any; InputError if for some only."""
    matches = [pattern.fullmatch(path.stem) for path in files]
    found = [match for match in matches if match]
    if found and len(found) < len(files):
        odd = files[matches.index(None)]
        raise InputError(f"{odd}: must be named as the other recordings of {naming}, {pattern.pattern}.wav")
    return found or None


def clip_name(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def fsdd(root: Path) -> Catalogue | None:
    """`{digit}_{speaker}_{index}.wav`, index 0..4 being the test partition."""
    files = wavs(root)
    matches = match_all(files, PLAIN, "FSDD") or []
    recordings = tuple(
        Named(
            path=path,
            clip_id=clip_name(path, root),
            digit=int(match[1]),
            speaker=match[2],
            test=int(match[3]) < FSDD_TEST_INDICES,
        )
        for path, match in zip(files, matches, strict=False)
    )
    return Catalogue(naming="FSDD", recordings=recordings) if recordings else None


def audio_mnist(root: Path) -> Catalogue | None:
    """`{speaker}/{digit}_{speaker}_{take}.wav`."""
    recordings: list[Named] = []
    for folder in folders(root):
        files = wavs(folder)
        own = re.compile(rf"(\d)_{re.escape(folder.name)}_(\d+)")
        for path, match in zip(files, match_all(files, own, "AudioMNIST") or [], strict=False):
            clip_id = clip_name(path, root)
            recordings.append(Named(path=path, clip_id=clip_id, digit=int(match[1]), speaker=folder.name, test=None))
    return Catalogue(naming="AudioMNIST", recordings=tuple(recordings)) if recordings else None


def speech_commands(root: Path) -> Catalogue | None:
    """`{word}/{speaker}_nohash_{take}.wav`; `testing_list.txt`, where there is one, names the test partition."""
    listed = testing_list(root / "testing_list.txt")
    recordings: list[Named] = []
    for folder in folders(root):
        digit, files = digit_of(folder.name), wavs(folder)
        if digit is None or folder.name.isdigit():
            continue
        for path, match in zip(files, match_all(files, NOHASH, "Speech Commands") or [], strict=False):
            clip_id = clip_name(path, root)
            test = None if listed is None else clip_id in listed
            recordings.append(Named(path=path, clip_id=clip_id, digit=digit, speaker=match[1], test=test))
    ignored = sum(len(wavs(folder)) for folder in folders(root) if digit_of(folder.name) is None)
    return Catalogue(naming="Speech Commands", recordings=tuple(recordings), ignored=ignored) if recordings else None


def testing_list(path: Path) -> set[str] | None:
    """The clip ids that a testing_list.txt names; None without one."""
    if not path.is_file():
        return None
    try:
        lines = read_bounded(path, LONGEST_LIST).decode().split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be a text file of one recording a line: {error}") from error
    return {line.strip().removesuffix(".wav") for line in lines if line.strip()}


def labelled(root: Path) -> Catalogue | None:
    """`label/*.wav`, the label a digit or its English word; who speaks is not known."""
    digits = {folder: digit_of(folder.name) for folder in folders(root)}
    recordings = tuple(
        Named(path=path, clip_id=clip_name(path, root), digit=digit, speaker="", test=None)
        for folder, digit in digits.items()
        if digit is not None
        for path in wavs(folder)
    )
    ignored = sum(len(wavs(folder)) for folder, digit in digits.items() if digit is None)
    return Catalogue(naming="label/*.wav", recordings=recordings, ignored=ignored) if recordings else None
