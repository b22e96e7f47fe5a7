"""A data set from raw files: of folders of pictures and recordings, or of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.building.asking import IMAGE, Folders, Table, picture_form, require_asked, sounds
from mmtune.data.building.drawing import divided
from mmtune.data.building.folders import IDX, read_pictures, read_recordings
from mmtune.data.building.pairing import pair
from mmtune.data.building.reading import require_sound, skipped
from mmtune.data.building.sources import Asked, How, Source
from mmtune.data.building.tables import read_table
from mmtune.data.checks import require_classes_present, require_name
from mmtune.data.dataset import Bank, Dataset, Names, Partition, Progress
from mmtune.data.forms import Digit, Form, Sound, Vector
from mmtune.data.identity import distinct, is_identity
from mmtune.data.storage.atomic import require_writable
from mmtune.data.storage.store import require_replaceable, save

CHUNK = 1024
FILLED = "--vector COLUMN,...:filled takes the mean of its column for a number that is missing"


def build(what: Folders | Table, out: Path, how: How | None = None, on_progress: Progress | None = None) -> Dataset:
    """Build a data set and save it to `out`; its provenance says what was found.

    on_progress: called with (what, done, total).
    Raises InputError, and leaves `out` as it was, where a rule is broken.
    """
    how, out = how or How(), Path(out)
    report = on_progress or (lambda what, done, total: None)
    name = out.resolve().name
    require_name(name, str(out))
    require_replaceable(out)
    require_writable(out.resolve())
    parts = of_table(what, how, report) if isinstance(what, Table) else of_folders(what, how, report)
    dataset = replace(finished(name, *parts), keep_apart=how.keep_apart)
    report("writing", 1, 2)
    saved = save(dataset, out)
    report("done", 2, 2)
    return saved


Parts = tuple[tuple[str, ...], Partition, Partition, Sequence[Asked], dict[str, Any]]
"""Classes, training and test rows with their banks unscaled, what was asked for, and the provenance."""


def of_table(what: Table, how: How, report: Progress) -> Parts:
    source = read_table(what.path, what.asked, how, report)
    require_usable(how, source, advice=FILLED if source.facts["halved"] else "")
    report("features", 0, 2)
    train, test = divide(source, None, what.path, how, what.asked)
    provenance = {"source": "built", "table": source.facts, "seed": how.seed}
    return source.classes, train.compact(), test.compact(), what.asked, provenance


class Side(NamedTuple):
    """The pictures or the recordings of a data set, where they came from, and others that are its test."""

    kind: str
    source: Source
    other: Source | None
    folder: Path


def of_folders(what: Folders, how: How, report: Progress) -> Parts:
    """Pictures, recordings, or pairs of both."""
    require_folders(what)
    form = picture_form(what.image_form, "--image-form") if what.image_form else None
    heard = sounds(what.audio_forms)
    sides, asked = list[Side](), list[Asked]()
    if what.images is not None:
        source, shape = read_pictures(what.images, form, (), how, report)
        pictures = partial(read_pictures, form=shape, wanted=source.classes, how=how, report=report)
        sides.append(Side("images", source, pictures(what.test_images)[0] if what.test_images else None, what.images))
        asked.append(Asked(IMAGE, IMAGE, shape))
    if what.audio is not None:
        wanted = sides[0].source.classes if sides else ()
        source = read_recordings(what.audio, heard[0].form, wanted, how, report)
        recordings = partial(read_recordings, form=heard[0].form, wanted=source.classes, how=how, report=report)
        sides.append(Side("audio", source, recordings(what.test_audio) if what.test_audio else None, what.audio))
        asked += heard
    require_asked(asked)
    assumed = isinstance(asked[0].form, Digit) and not what.image_form
    advice = "as all classes are digits, pictures are read as such; --image-form 32x32:rgb takes them as they are"
    sources = [own for side in sides for own in (side.source, side.other) if own is not None]
    require_usable(how, *sources, advice=advice if assumed else "")
    report("features", 0, 2)
    divisions = [divide(side.source, side.other, side.folder, how, asked) for side in sides]
    provenance = {"source": "built", **{side.kind: side.source.facts for side in sides}, "seed": how.seed}
    classes = sides[0].source.classes
    if len(divisions) == 1:
        return classes, divisions[0][0].compact(), divisions[0][1].compact(), asked, provenance
    if all(how.keep_apart in side.source.rows.groups for side in sides):
        raise InputError(
            f"--keep-apart {how.keep_apart} is of pictures and of recordings, which are paired by class alone, so that "
            "a row would have two of them; a --table says who belongs to whom"
        )
    rng = np.random.default_rng(how.seed)
    train, test = (pair(shown, said, rng) for shown, said in zip(*divisions, strict=True))
    return classes, train, test, asked, provenance


def require_folders(what: Folders) -> None:
    """Raise InputError unless there is something to build from, and nothing is said of what is not there."""
    if what.images is None and what.audio is None:
        raise InputError("a data set must be built of --images, --audio or both, or of --table")
    of_pictures = {"--test-images": what.test_images, "--image-form": what.image_form}
    of_recordings = {"--test-audio": what.test_audio, "--audio-form": what.audio_forms}
    for option, own, others in (("--images", what.images, of_pictures), ("--audio", what.audio, of_recordings)):
        said = [other for other, value in others.items() if value]
        if own is None and said:
            raise InputError(f"{said[0]} needs {option}")


def divide(
    source: Source, other: Source | None, where: Path, how: How, asked: Sequence[Asked]
) -> tuple[Partition, Partition]:
    """Training and test of a source by bank, unscaled, every class in both, its facts completed.

    What is asked for is made before it is divided: different recordings may become the same, as one word that is said
    at two places does, and what is the same is on one side.
    """
    own = source._replace(rows=with_banks(source.rows, asked))
    their = None if other is None else other._replace(rows=with_banks(other.rows, asked))
    train, test, facts = divided(own, their, how.keep_apart, how.seed)
    source.facts.update(facts, **repeated(source))
    if other is not None:
        source.facts["test_source"] = other.facts
    for side, part in (("training", train), ("test", test)):
        require_classes_present(f"{where} ({facts['partition']})", part.labels, source.classes, f"{side} rows")
    return train, test


def with_banks(rows: Partition, asked: Sequence[Asked]) -> Partition:
    """The rows of a source with the banks that are asked for and made of its columns, in place of these."""
    own = [one for one in asked if one.column in rows.banks]
    return replace(rows, banks={one.bank: made_of(rows.banks[one.column], one.form) for one in own})


def made_of(bank: Bank, form: Form) -> Bank:
    """What is made of a column, unscaled."""
    return through(bank, form.of_waves(bank.values)) if isinstance(form, Sound) else bank


def repeated(source: Source) -> dict[str, int]:
    """How many rows of a source have an earlier one's picture, sound or array, and how many of these two classes."""
    banks = [bank for bank in source.rows.banks.values() if is_identity(bank)]
    present = [(bank.index[bank.index >= 0], source.rows.labels[bank.index >= 0]) for bank in banks]
    return {
        "equal": sum(len(index) - len(np.unique(index)) for index, _ in present),
        "of_two_classes": sum(len(np.unique(np.stack(own), axis=1).T) - len(np.unique(own[0])) for own in present),
    }


def require_usable(how: How, *sources: Source, advice: str = "") -> None:
    """Raise InputError unless the groups that a user names are some source's, and all files are sound or skipped.

    advice: what may mend files of which none can be used.
    """
    if how.skip_bad:
        for source in sources:
            source.facts.update(skipped(source.bad))
    else:
        require_sound({name: reason for source in sources for name, reason in source.bad.items()}, advice)
    if how.label and all(source.facts["naming"] == IDX for source in sources):
        raise InputError(f"--label is for files whose paths say it, IDX files hold their labels; got {how.label!r}")
    groups = dict.fromkeys(group for source in sources for group in source.rows.groups)
    for name in how.named_groups(alone=True):
        if name not in groups:
            raise InputError(f"--group {name} must match a path, it matches none")
    if how.keep_apart and how.keep_apart not in groups:
        rule = f"must name a group of {', '.join(groups)}" if groups else "must name a group, and there is none"
        raise InputError(f"--keep-apart {rule} (--group makes one), got {how.keep_apart!r}")


def finished(
    name: str,
    classes: Sequence[str],
    train: Partition,
    test: Partition,
    asked: Sequence[Asked],
    provenance: Mapping[str, Any],
) -> Dataset:
    """A data set not yet on disk (no digest) of rows whose banks are not scaled.

    Scales are fitted on the training values alone.
    """
    forms: dict[str, Form] = {}
    banks: list[dict[str, Bank]] = [{}, {}]
    for one in asked:
        raw = [part.banks[one.bank] for part in (train, test)]
        if not len(raw[0].values):
            raise InputError(f"{one.bank} must have a value in training, has none")
        # A recording counts once however many pictures it stands behind; equal numbers are as many as have them.
        rows = raw[0].index[raw[0].index >= 0]
        forms[one.bank] = one.form.fit(raw[0].values[rows] if isinstance(one.form, Vector) else raw[0].values)
        for made, bank in zip(banks, raw, strict=True):
            made[one.bank] = through(bank, scaled(forms[one.bank], bank.values))
    return Dataset(
        name=name,
        folder=Path(),
        classes=tuple(classes),
        forms=forms,
        train=replace(train, banks=banks[0], groups=with_groups(train, test)),
        test=replace(test, banks=banks[1], groups=with_groups(test, train)),
        digest="",
        provenance=provenance,
    )


def through(bank: Bank, values: NDArray[Any]) -> Bank:
    """The rows of a bank over what its values were made, (M, ...); different sounds may have become the same."""
    if values is bank.values:
        return bank
    made = distinct(values)
    return replace(made, index=np.append(made.index, -1)[bank.index])


def with_groups(part: Partition, other: Partition) -> dict[str, Names]:
    """The groups of a partition, and those that only the other one knows, unknown."""
    return {name: np.zeros(len(part), "U1") for name in other.groups} | dict(part.groups)


def scaled(form: Form, values: NDArray[Any]) -> NDArray[Any]:
    """Values (M, ...) scaled, in their own place where they stay what they are, as there may be many."""
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK]
        made = form.scaled(part)
        if made is part:
            return values
        if made.dtype != values.dtype:
            return form.scaled(values)
        values[start : start + CHUNK] = made
    return values
