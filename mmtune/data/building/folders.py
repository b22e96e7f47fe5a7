"""Folders of pictures and of recordings to sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.building.asking import AUDIO, IMAGE, file_form
from mmtune.data.building.layouts import Layout, Named, files_of, recognise
from mmtune.data.building.reading import FIRST, read_files
from mmtune.data.building.sources import How, Source, regex
from mmtune.data.checks import require_classes
from mmtune.data.classes import classes_among, classes_of, ordered
from mmtune.data.dataset import RECORDING, SPEAKER, Bank, Names, Partition, Progress, Rows
from mmtune.data.digits import DIGITS
from mmtune.data.forms import Digit, Form, Picture, dtype_of
from mmtune.data.identity import distinct
from mmtune.data.media.idx import find_idx, read_idx_set
from mmtune.data.media.pictures import opened

COLUMNS = {"pictures": IMAGE, "recordings": AUDIO}
MOST_SIDE, OTHERWISE = 128, 32
IDX = "IDX"
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "F")
"""Pillow's modes that have no colours."""


class Listed(NamedTuple):
    """The files of a folder, its classes, and the class of each label that is one. kind: pictures or recordings."""

    folder: Path
    kind: str
    layout: Layout
    classes: tuple[str, ...]
    names: dict[str, str]


def read_pictures(
    folder: Path, form: Form | None, wanted: Sequence[str], how: How, report: Progress
) -> tuple[Source, Form]:
    """The pictures of a folder, and what they are made: MNIST's IDX files as they are, or `label/*`.

    form: None for what suits them: digits as MNIST's, others in their own size if it is one and small.
    wanted: the classes, where they are known; pictures of others are left out.
    Raises InputError where there are none, or a class has none.
    """
    paths = files_of(folder)
    if files := find_idx(folder, paths):
        return read_mnist(folder, files, paths, form, wanted)
    listed = list_files(folder, "pictures", paths, wanted, how)
    if form is None:
        plain = set(listed.classes) <= set(DIGITS)
        form = Digit() if plain else own_form([folder / one.path for one in listed.layout.named], report)
    return read_listed(listed, form, how, report), form


def read_recordings(folder: Path, form: Form, wanted: Sequence[str], how: How, report: Progress) -> Source:
    """The recordings of a folder by the namings of `layouts`; InputError as `read_pictures`."""
    return read_listed(list_files(folder, "recordings", files_of(folder), wanted, how), file_form(form), how, report)


def list_files(folder: Path, kind: str, paths: Sequence[str], wanted: Sequence[str], how: How) -> Listed:
    label = regex(how.label, "--label") if how.label else None
    layout = recognise(folder, kind, paths, wanted, label)
    names, classes = known_classes(folder, kind, [one.label for one in layout.named], wanted)
    return Listed(folder, kind, layout, classes, names)


def known_classes(
    folder: Path, kind: str, labels: Sequence[str], wanted: Sequence[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The class of each label that is one, and all classes; InputError unless each of those wanted is there."""
    names = classes_among(labels, wanted) if wanted else classes_of(labels)
    classes, there = tuple(wanted) or ordered(names.values()), set(names.values())
    require_classes(classes, str(folder))
    missing = [name for name in classes if name not in there]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(f"{folder}: every class must have {kind}, none are of {', '.join(missing[:5])}{more}")
    return names, classes


def read_listed(listed: Listed, form: Form, how: How, report: Progress) -> Source:
    """The files of a folder, read as they are to be for a form."""
    folder, kind, layout, classes, names = listed
    named = [one for one in layout.named if one.label in names]
    groups = groups_of(named, how)
    files = [folder / one.path for one in named]
    found, wrong = read_files(files, form.shape, dtype_of(form), form.extract, partial(report, kind))
    bad = dict.fromkeys(layout.strays, f"must be named as the other {kind} of {layout.naming}")
    bad |= {path.relative_to(folder).as_posix(): reason for path, reason in wrong.items()}
    if kind == "recordings":
        groups = {RECORDING: first_names(found, np.array([one.name for one in named]))} | groups
    test = None if any(one.test is None for one in named) else np.array([bool(one.test) for one in named])
    made = Partition(
        banks={COLUMNS[kind]: found}, labels=numbers([names[one.label] for one in named], classes), groups=groups
    )
    facts = {"naming": layout.naming} | others([one.label for one in layout.named], names) | ignored(layout.ignored)
    whole = Source(classes, made, test, facts, {f"{folder.name}/{name}": reason for name, reason in bad.items()})
    return whole.take(np.flatnonzero(found.index >= 0)) if wrong else whole


def groups_of(named: Sequence[Named], how: How) -> dict[str, Names]:
    """Speakers as the naming says them, and the groups that the user's regexes find."""
    found = {SPEAKER: np.array([one.speaker for one in named])} if any(one.speaker for one in named) else {}
    for group, pattern in how.named_groups(alone=False).items():
        found.pop(group, None)
        matches = [regex(pattern, "--group").search(one.path) for one in named]
        if any(matches):
            found[group] = np.array([(match[1] or "") if match else "" for match in matches])
    return found


def numbers(names: Sequence[str], classes: Sequence[str]) -> Rows:
    """The numbers of classes by their names; 0 for a name that is none."""
    number = {name: turn for turn, name in enumerate(classes)}
    return np.array([number.get(name, 0) for name in names], np.int64)


def others(labels: Sequence[str], names: Container[str]) -> dict[str, Any]:
    """What is recorded of labels that are no class."""
    return {"other_classes": dict(Counter(label for label in labels if label not in names).most_common(FIRST))}


def ignored(paths: Sequence[str]) -> dict[str, Any]:
    """What is recorded of files that are of no use."""
    return {"ignored": len(paths), "ignored_first": list(paths[:FIRST])}


def first_names(bank: Bank, names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Of each row the name of the first one with the same value: equal recordings are one recording."""
    _, first, own = np.unique(bank.index, return_index=True, return_inverse=True)
    found: NDArray[np.str_] = names[first][own]
    return found


def read_mnist(
    folder: Path, files: dict[str, str], paths: Sequence[str], form: Form | None, wanted: Sequence[str]
) -> tuple[Source, Form]:
    """IDX files as a source: their pixels are taken as they are."""
    idx = read_idx_set(folder, files)
    names, classes = known_classes(folder, "pictures", idx.labels, wanted)
    height, width = idx.pixels.shape[1:]
    plain = set(classes) <= set(DIGITS) and (height, width) == Digit().shape
    form = form or (Digit() if plain else Picture(height=height, width=width))
    if form.shape != (height, width):
        raise InputError(f"{folder}: IDX files are taken as they are, {height}x{width}:grey, not as {form.shape}")
    labels = numbers([names.get(label, "") for label in idx.labels], classes)
    made = Partition(banks={IMAGE: distinct(idx.pixels)}, labels=labels, groups={})
    facts = {"naming": IDX} | others(idx.labels, names) | ignored([path for path in paths if path not in idx.used])
    whole = Source(classes, made, idx.test, facts, {})
    rows = np.flatnonzero([label in names for label in idx.labels])
    return (whole if len(rows) == len(labels) else whole.take(rows)), form


def own_form(paths: Sequence[Path], report: Progress) -> Picture:
    """The size of all pictures if they have one, small enough, and else 32 x 32; in colour where one of them is."""
    sizes, colour = set[tuple[int, int]](), False
    for done, path in enumerate(paths):
        if len(sizes) > 1 and colour:
            break
        report("sizes of pictures", done, len(paths))
        try:
            height, width, coloured = opened(path, partial(size_and_colour, decoded=not colour)).tolist()
        except InputError:  # it is read, and refused, with all others
            continue
        sizes.add((height, width))
        colour = colour or bool(coloured)
    height, width = sizes.pop() if len(sizes) == 1 else (MOST_SIDE + 1, 0)
    if max(height, width) > MOST_SIDE:
        height = width = OTHERWISE
    return Picture(height=height, width=width, colour=colour)


def size_and_colour(picture: Any, decoded: bool) -> NDArray[Any]:
    """(3,) of a picture of Pillow's: height, width, and 1 where it has colours, which are looked for if `decoded`."""
    coloured = False
    if decoded and picture.mode not in GREY:
        seen = np.asarray(picture.convert("RGB"))
        coloured = bool((seen[..., :1] != seen).any())
    return np.array([picture.height, picture.width, coloured])
