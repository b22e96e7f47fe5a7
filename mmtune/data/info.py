"""What a data set holds and what that rules out, in plain lines: as `build` found it, and as `info` measures it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mmtune.base.errors import InputError, one_line
from mmtune.data.dataset import SPEAKER, Dataset, Partition
from mmtune.data.forms import Form, Vector
from mmtune.data.identity import shared
from mmtune.data.protocols import CONTENT, DISJOINT, NAMED, leakage, split

WIDTH = 12
MANY = 12
SOURCES = {"table": "table", "images": "pictures", "audio": "recordings"}
Said = Iterator[tuple[str, str]]


def lines(dataset: Dataset, seed: int = 0) -> list[str]:
    """A data set as lines of plain text: all that `found` says, and of every protocol what it lets through.

    That is the share of validation rows whose group, or whose value in a bank, is in training too; or why the protocol
    is not possible.
    """
    others = [f"{DISJOINT}{group}" for group in dataset.train.groups if f"{DISJOINT}{group}" not in NAMED.values()]
    protocols = [*NAMED, *others, f"{DISJOINT}{CONTENT}"]
    wide = max(map(len, protocols)) + 2
    return [
        f"{'name':<{WIDTH}}{dataset.name}",
        f"{'folder':<{WIDTH}}{one_line(str(dataset.folder))}",
        f"{'digest':<{WIDTH}}{dataset.digest}",
        *found(dataset),
        "",
        *(f"{protocol:<{wide}}{protocol_line(dataset.train, protocol, seed)}" for protocol in protocols),
    ]


def found(dataset: Dataset) -> list[str]:
    """What the set was made from, its rows, banks, classes and groups, and what of the test is in training too."""
    parts = {"training": dataset.train} | ({} if dataset.test is None else {"test": dataset.test})
    said = [*of_provenance(dataset.provenance), *of_banks(dataset, parts), *of_classes(dataset, parts)]
    said += [*of_groups(parts), *of_test(dataset)]
    return [one_line(f"{name:<{WIDTH - 1}} {text}") for name, text in said]


def of_provenance(provenance: Mapping[str, Any]) -> Said:
    """How files were read, and what was left out; whoever made the data set wrote it."""
    for key, value in provenance.items():
        if key in SOURCES and isinstance(value, dict):
            yield from of_source(SOURCES[key], value)
        else:
            yield key, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def of_source(what: str, facts: Mapping[str, Any]) -> Said:
    """The facts of one source, each that is any."""
    rows = (
        f", {number(facts, 'train')} for training and {number(facts, 'test')} for the test" if "train" in facts else ""
    )
    test = f"; test: {facts['partition']}" if "partition" in facts else ""
    naming = facts.get("naming")
    yield what, f"{'a table' if naming == 'table' else f'by the naming {naming}'}{rows}{test}"
    other = facts.get("other_classes")
    filled = facts.get("filled")
    for text, counts in (("of other classes, not used", other), ("empty, so the mean of training", filled)):
        if isinstance(counts, dict) and counts:
            yield "", f"{text}: {counted(counts)}"
    texts = {
        "equal": "are equal to an earlier one: a value is kept once, and never on both sides",
        "of_two_classes": "values have several classes",
        "halved": "rows have none of a bank's numbers, as one is empty or more; --vector COLUMN,...:filled fills these",
        "left_out": "left out of training, as their content is in the test too",
        "skipped": f"could not be used: {first(facts, 'skipped')}",
        "ignored": f"of the files are ignored: {first(facts, 'ignored')}",
    }
    for key, text in texts.items():
        if facts.get(key):
            yield "", f"{number(facts, key)} {text}"
    if isinstance(facts.get("test_source"), dict):
        yield from of_source("test source", facts["test_source"])


def number(facts: Mapping[str, Any], key: str) -> str:
    """A count; as it stands there where it is none, as anybody may have written the file."""
    found = facts.get(key)
    return f"{found:,}" if isinstance(found, int) else str(found)


def first(facts: Mapping[str, Any], key: str) -> str:
    """The first few of what is named, and dots for more."""
    there = facts.get(f"{key}_first")
    names = list(map(str, there)) if isinstance(there, list) else []
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def counted(counts: Mapping[str, Any]) -> str:
    """Names with their counts, MANY at most."""
    shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:MANY])
    return shown if len(counts) <= MANY else f"{shown}, and {len(counts) - MANY} more"


def of_banks(dataset: Dataset, parts: Mapping[str, Partition]) -> Said:
    """How many rows and values there are, and which rows lack one."""
    for name, form in dataset.forms.items():
        values = " + ".join(f"{len(part.banks[name].values):,}" for part in parts.values())
        yield name, f"{described(form)}; {values} values"
        for side, part in parts.items():
            if missing := int((part.banks[name].index < 0).sum()):
                yield "", f"{missing:,} of {len(part):,} {side} rows have none"


def described(form: Form) -> str:
    """What the values of a bank are."""
    return f"{form.kind} {' x '.join(map(str, form.shape))}{of_columns(form)}"


def of_columns(form: Form) -> str:
    """What the numbers of a vector are; "" of other forms."""
    return f" of {', '.join(form.columns[:MANY])}" if isinstance(form, Vector) else ""


def of_classes(dataset: Dataset, parts: Mapping[str, Partition]) -> Said:
    """The rows of each class."""
    counts = {side: np.bincount(part.labels, minlength=len(dataset.classes)) for side, part in parts.items()}
    for side, own in counts.items():
        rows = f"{own.sum():,} rows of {len(own)} classes"
        spread = f", {own.min():,} to {own.max():,} each" if own.min() < own.max() else f", {own.min():,} each"
        yield side, f"{rows}{spread}: {counted(dict(zip(dataset.classes, own.tolist(), strict=True)))}"


def of_groups(parts: Mapping[str, Partition]) -> Said:
    """Who is in both partitions, and which protocols cannot be had."""
    train, test = parts["training"], parts.get("test")
    for group in dict.fromkeys([*train.groups, SPEAKER]):
        named = next((name for name, meaning in NAMED.items() if meaning == f"{DISJOINT}{group}"), f"{DISJOINT}{group}")
        if group not in train.groups:
            yield group, f"unknown, so {named} is not possible"
            continue
        own = set(train.groups[group].tolist()) - {""}
        unknown = sum(int((part.groups[group] == "").sum()) for part in parts.values())
        text = f"{len(own):,} in training"
        if test is not None:
            others = set(test.groups[group].tolist()) - {""}
            text += f", {len(others):,} in the test, {len(own & others):,} in both"
        lost = f"; unknown for {unknown:,} rows" if unknown else ""
        yield group, text + lost + ("" if train.known(group) else f", so {named} is not possible")


def of_test(dataset: Dataset) -> Said:
    """How much of the test is in training too."""
    if dataset.test is not None:
        again = int(shared(dataset.test, dataset.train).sum())
        yield "leakage", f"{again:,} of {len(dataset.test):,} test rows have a picture, sound or array of training"


def protocol_line(train: Partition, protocol: str, seed: int) -> str:
    try:
        made = split(train, protocol, seed)
    except InputError as error:
        return f"not possible: {error}"
    shares = ", ".join(f"{name} {share:.1%}" for name, share in leakage(train, made).items())
    return f"{len(made.train):,} + {len(made.validation):,} rows; also in training: {shares}"
