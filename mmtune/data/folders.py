"""Folders of pictures and of recordings to sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.asking import AUDIO, IMAGE, file_form
from mmtune.data.checks import require_classes
from mmtune.data.classes import classes_among, classes_of, ordered
from mmtune.data.dataset import RECORDING, SPEAKER, Bank, Partition, Progress
from mmtune.data.digits import DIGITS
from mmtune.data.forms import Digit, Form, Picture, dtype_of
from mmtune.data.identity import distinct
from mmtune.data.idx import find_idx, read_idx_set
from mmtune.data.layouts import Layout, files_of, recognise
from mmtune.data.pictures import opened
from mmtune.data.reading import FIRST, read_files, settle
from mmtune.data.sources import How, Source, regex

LOOKED_AT, MOST_SIDE, OTHERWISE = 256, 128, 32


def read_pictures(
    folder: Path, form: Form | None, wanted: Sequence[str], how: How, report: Progress
) -> tuple[Source, Form]:
    """The pictures of a folder, and what they are made: MNIST's IDX files as they are, or `label/*`.

    form: None for what suits them: digits as MNIST's, others in their own size if it is one and small.
    wanted: the classes, where they are known; pictures of others are left out.
    Raises InputError where there are none, a class has none, or files cannot be read.
    """
    paths = files_of(folder)
    if files := find_idx(folder, paths):
        return read_mnist(folder, files, paths, form, wanted)
    layout, classes, names = listed(folder, "pictures", paths, wanted, how)
    if form is None:
        plain = set(classes) <= set(DIGITS)
        form = Digit() if plain else own_form([folder / one.path for one in layout.named if one.label in names])
    return source_of(folder, "pictures", IMAGE, form, layout, classes, names, how, report), form


def read_recordings(folder: Path, form: Form, wanted: Sequence[str], how: How, report: Progress) -> Source:
    """The recordings of a folder by the namings of `layouts`; InputError as `read_pictures`."""
    layout, classes, names = listed(folder, "recordings", files_of(folder), wanted, how)
    return source_of(folder, "recordings", AUDIO, file_form(form), layout, classes, names, how, report)


def listed(
    folder: Path, kind: str, paths: Sequence[str], wanted: Sequence[str], how: How
) -> tuple[Layout, tuple[str, ...], dict[str, str]]:
    """The files of a folder, its classes, and the class of each label that is one."""
    label = regex(how.label, "--label") if how.label else None
    layout = recognise(folder, kind, paths, wanted, label)
    labels = [one.label for one in layout.named]
    names = classes_among(labels, wanted) if wanted else classes_of(labels)
    classes = tuple(wanted) or ordered(names.values())
    require_all(folder, kind, classes, names.values())
    return layout, classes, names


def require_all(folder: Path, kind: str, classes: Sequence[str], there: Any) -> None:
    """Raise InputError unless these are classes, and each is there."""
    require_classes(classes, str(folder))
    found = set(there)
    missing = [name for name in classes if name not in found]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(f"{folder}: every class must have {kind}, none are of {', '.join(missing[:5])}{more}")


def source_of(
    folder: Path,
    kind: str,
    column: str,
    form: Form,
    layout: Layout,
    classes: tuple[str, ...],
    names: dict[str, str],
    how: How,
    report: Progress,
) -> Source:
    """The files of a layout, read."""
    named = [one for one in layout.named if one.label in names]
    groups = {SPEAKER: np.array([one.speaker for one in named])} if any(one.speaker for one in named) else {}
    for group, pattern in how.named_groups(alone=False).items():
        groups.pop(group, None)
        matches = [regex(pattern, "--group").search(one.path) for one in named]
        if any(matches):
            groups[group] = np.array([(match[1] or "") if match else "" for match in matches])
    found, wrong = read_files(
        [folder / one.path for one in named], form.shape, dtype_of(form), form.extract, partial(report, kind)
    )
    bad = dict.fromkeys(layout.strays, f"must be named as the other {kind} of {layout.naming}")
    bad |= {str(path.relative_to(folder)): reason for path, reason in wrong.items()}
    skipped = settle(bad, how.skip_bad, folder)
    if kind == "recordings":
        groups = {RECORDING: first_names(found, np.array([one.name for one in named]))} | groups
    number = {name: turn for turn, name in enumerate(classes)}
    labels = np.array([number[names[one.label]] for one in named], np.int64)
    test = None if any(one.test is None for one in named) else np.array([bool(one.test) for one in named])
    others = Counter(one.label for one in layout.named if one.label not in names)
    facts = {"naming": layout.naming, "other_classes": dict(others.most_common(FIRST))} | ignored(layout.ignored)
    whole = Source(classes, Partition(banks={column: found}, labels=labels, groups=groups), test, facts | skipped)
    return whole.take(np.flatnonzero(found.index >= 0)) if skipped else whole


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
    names = classes_among(idx.labels, wanted) if wanted else classes_of(idx.labels)
    classes = tuple(wanted) or ordered(names.values())
    require_all(folder, "pictures", classes, names.values())
    height, width = idx.pixels.shape[1:]
    plain = set(classes) <= set(DIGITS) and (height, width) == Digit().shape
    form = form or (Digit() if plain else Picture(height=height, width=width))
    if form.shape != (height, width):
        raise InputError(f"{folder}: IDX files are taken as they are, {height}x{width}:grey, not as {form.shape}")
    rows = np.flatnonzero([label in names for label in idx.labels])
    number = {name: turn for turn, name in enumerate(classes)}
    numbers = np.array([number.get(names.get(label, ""), 0) for label in idx.labels], np.int64)
    others = Counter(label for label in idx.labels if label not in names)
    facts = {"naming": "IDX", "other_classes": dict(others.most_common(FIRST))}
    facts |= ignored([path for path in paths if path not in idx.used])
    whole = Source(classes, Partition(banks={IMAGE: distinct(idx.pixels)}, labels=numbers, groups={}), idx.test, facts)
    return (whole if len(rows) == len(numbers) else whole.take(rows)), form


def own_form(paths: Sequence[Path]) -> Picture:
    """The size of some pictures if they have one, small enough, and else 32 x 32; in colour where one of them is."""
    sizes, colour = set(), False
    for path in paths[:: max(1, len(paths) // LOOKED_AT)]:
        try:
            seen = opened(path, lambda picture: np.asarray(picture.convert("RGB")))
        except InputError:  # it is read, and refused, with all others
            continue
        sizes.add(seen.shape[:2])
        colour = colour or bool((seen[..., :1] != seen).any())
    height, width = sizes.pop() if len(sizes) == 1 else (MOST_SIDE + 1, 0)
    if max(height, width) > MOST_SIDE:
        height = width = OTHERWISE
    return Picture(height=height, width=width, colour=colour)
