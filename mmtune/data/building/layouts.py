"""What the paths of a folder's files say: label, speaker and partition, by namings that are known or the user's own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmtune.base.bounds import MEBIBYTE, read_bounded
from mmtune.base.errors import InputError
from mmtune.data.building.sources import test_parts
from mmtune.data.checks import require_names
from mmtune.data.classes import classes_among, digit_of, likeness

SUFFIXES = {
    "pictures": ("png", "jpg", "jpeg", "mpo", "webp", "heic", "heif"),
    "recordings": ("wav", "flac", "mp3", "ogg", "oga", "opus", "m4a", "webm"),
}
ENDING = re.compile(rf"(\.({'|'.join(sum(SUFFIXES.values(), ()))}))+$", re.IGNORECASE)
# Of each naming what it looks like, and the same for a path below the source without its suffix. Earlier ones win.
NAMINGS = {
    "AudioMNIST": ("{speaker}/{label}_{speaker}_{take}", r"(?P<speaker>[^/]+)/(?P<label>[^/_]+)_(?P=speaker)_\d+"),
    "Speech Commands": ("{word}/{speaker}_nohash_{take}", r"(?P<label>[^/]+)/(?P<speaker>[0-9a-f]+)_nohash_\d+"),
    "FSDD": ("{label}_{speaker}_{index}", r"(?P<label>[^/_]+)_(?P<speaker>[^/]+)_(?P<index>\d{1,9})"),
    "FSDD in label/*": (
        "{label}/{label}_{speaker}_{index}",
        r"(?P<label>[^/]+)/(?P<same>[^/_]+)_(?P<speaker>[^/]+)_(?P<index>\d{1,9})",
    ),
    "label/*": ("{label}/*", r"(?P<label>(?!_background_noise_/)[^/]+)/.+"),
    "speaker/word_take": ("{speaker}/{word}_{take}", r"(?P<speaker>[^/]+)/(?P<label>[^/_]+)_\d+"),
    "speaker/label/*": ("{speaker}/{label}/*", r"(?P<speaker>[^/]+)/(?P<label>[^/]+)/.+"),
    "speaker_word_take": ("{speaker}_{word}_{take}", r"(?P<speaker>[^/_]+)_(?P<label>[^/_]+)_\d+"),
}
PLAIN = "label/*"
UNSURE = ("speaker/word_take", "speaker/label/*", "speaker_word_take")
"""Namings that other files fit by chance: they count only where their labels are digits, or classes that are known."""
ROOTS = ("recordings/", "data/", "")
FSDD_TEST_INDICES = 5  # by the convention of FSDD: index 0..4
DEEPEST = 6
LONGEST_LIST = 64 * MEBIBYTE


class Named(NamedTuple):
    """One file. path: below the source; name: below the folder that all lie in, without its suffix.

    test: None where nothing says.
    """

    path: str
    name: str
    label: str
    speaker: str
    test: bool | None


class Layout(NamedTuple):
    """The files of a source. strays: paths among them that are named otherwise. ignored: paths of no use."""

    naming: str
    named: list[Named]
    strays: list[str]
    ignored: list[str]


def files_of(folder: Path) -> list[str]:
    """The paths of all files below a folder, sorted; hidden ones and those more than DEEPEST folders down left out.

    InputError where it is no folder, or where a name holds control characters.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: must be a folder, {'is a file' if folder.exists() else 'is missing'}")
    found: list[str] = []
    for home, inner, names in os.walk(folder, followlinks=True):
        below = Path(home).relative_to(folder)
        near = len(below.parts) < DEEPEST
        hidden = (".", "__MACOSX")
        inner[:] = [name for name in inner if near and not name.startswith(hidden) and not leads_up(Path(home), name)]
        found += [(below / name).as_posix() for name in names if not name.startswith(".")]
    found.sort()
    if found:
        require_names(np.array(found), f"{folder}: names of files")
    return found


def leads_up(home: Path, name: str) -> bool:
    """Whether a folder's entry is a link to that folder or to one that it lies in, whose files would be found again."""
    path = home / name
    return path.is_symlink() and Path(os.path.realpath(home)).is_relative_to(os.path.realpath(path))


def recognise(
    folder: Path, kind: str, paths: Sequence[str], wanted: Sequence[str] = (), label: re.Pattern[str] | None = None
) -> Layout:
    """What the paths of a folder's pictures or recordings (`kind`) say.

    wanted: classes that are known already, which tell namings apart. label: the user's own regex.
    Raises InputError where no naming fits.
    """
    own = [path for path in paths if path.lower().endswith(SUFFIXES[kind])]
    if label is not None:
        found = {path: label.search(path) for path in own}
        hits = {path: match[1] for path, match in found.items() if match and match[1]}
        parts = by_part(list(hits), len(common_folder(list(hits)))) if hits else {}
        named = [Named(path, ENDING.sub("", path), hits[path], "", test) for path, (_, test) in parts.items()]
        return with_ignored(Layout("--label", named, [], []), paths)
    for root in ROOTS:
        inside = [path for path in own if path.startswith(root)]
        if not inside:
            continue
        common = common_folder(inside)
        homes = (common, common[: common.rfind("/", 0, -1) + 1])  # the folder of all may be that of the only speaker
        namings = list(NAMINGS) if kind == "recordings" else [PLAIN]
        layouts = [read_names(folder, home, naming, by_part(inside, len(home))) for home in homes for naming in namings]
        fits = [fit(layout, wanted, len(inside)) for layout in layouts]
        if max(fits) > (0, False):
            return with_ignored(layouts[fits.index(max(fits))], paths)
    known = "FSDD, Speech Commands or AudioMNIST, or lie in label/*" if kind == "recordings" else "label/*"
    raise InputError(
        f"{folder}: {kind} ({', '.join(SUFFIXES[kind])}) must be named as in {known}; --label names other ways"
    )


def with_ignored(layout: Layout, paths: Iterable[str]) -> Layout:
    """A layout that says what of all paths it ignores."""
    used = {one.path for one in layout.named} | {*layout.strays}
    return layout._replace(ignored=[path for path in paths if path not in used])


def common_folder(paths: Sequence[str]) -> str:
    """The folder that all paths lie in, with a slash at its end; "" for none."""
    common = os.path.commonpath([path.rpartition("/")[0] for path in paths])
    return f"{common}/" if common else ""


def by_part(paths: Sequence[str], start: int) -> Mapping[str, tuple[str, bool | None]]:
    """By path what of it says more than its folder, and whether it lies in `test/`, where there is also `train/`."""
    heads = {path: path[start:].partition("/") for path in paths}
    tests = test_parts({head for head, _, rest in heads.values() if rest})
    if not tests:
        return {path: (path[start:], None) for path in paths}
    return {path: (rest, tests[head]) for path, (head, _, rest) in heads.items() if head in tests}


def read_names(folder: Path, home: str, naming: str, divided: Mapping[str, tuple[str, bool | None]]) -> Layout:
    """What all paths say by one naming. home: what they all begin with, where a testing_list.txt may lie."""
    named: list[Named] = []
    index: list[int] = []
    for path, (rest, test) in divided.items():
        match = re.fullmatch(NAMINGS[naming][1], ENDING.sub("", rest))
        own = match.groupdict(default="") if match else {}
        if own and likeness(own.get("same", own["label"])) == likeness(own["label"]):
            named.append(Named(path, ENDING.sub("", path[len(home) :]), own["label"], own.get("speaker", ""), test))
            index.append(int(own.get("index", -1)))
    homes, used = {one.path.rpartition("/")[0] for one in named}, {one.path for one in named}
    strays = [path for path in divided if path not in used and path.rpartition("/")[0] in homes]
    listed = testing_list(folder / home / "testing_list.txt") if naming == "Speech Commands" and named else None
    if listed is not None:
        named = [one._replace(test=one.name in listed) for one in named]
    elif by_index(named, index):
        named = [one._replace(test=turn < FSDD_TEST_INDICES) for one, turn in zip(named, index, strict=True)]
    return Layout(naming, named, strays if naming != PLAIN else [], [])


def fit(layout: Layout, wanted: Sequence[str], count: int) -> tuple[int, bool]:
    """How well a naming fits `count` files: the classes that it finds, and whether it is one to be trusted."""
    labels, sure = {one.label for one in layout.named}, layout.naming not in UNSURE
    digits = {digit_of(label) for label in labels}
    if wanted:
        found = len(set(classes_among(labels, wanted).values()))
    else:
        found = len(digits) if None not in digits and (sure or len(digits) == 10) else 0
    return found, sure and len(labels) > 1 and 2 * len(layout.named) > count


def by_index(named: Sequence[Named], index: Sequence[int]) -> bool:
    """Whether FSDD's convention fits: every label has recordings of both kinds."""
    sides = [
        {one.label for one, turn in zip(named, index, strict=True) if (turn < FSDD_TEST_INDICES) == test and turn >= 0}
        for test in (False, True)
    ]
    return bool(sides[0]) and sides[0] == sides[1] and all(one.test is None for one in named)


def testing_list(path: Path) -> set[str] | None:
    """The stems of paths that a testing_list.txt names, which are the test partition; None without one."""
    if not path.is_file():
        return None
    try:
        lines = read_bounded(path, LONGEST_LIST).decode().split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be a text file of one recording a line: {error}") from error
    return {line.strip().removesuffix(".wav") for line in lines if line.strip()}
