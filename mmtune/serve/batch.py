"""A command's many rows, from wherever they come: answered, written down, and told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset, Progress
from mmtune.serve.answer.many import Answer, Rows, answers, every_word, of_folders, of_table
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.answer.tally import Record, as_json, line, record, summary, write_csv
from mmtune.serve.scoring import predict_partition

REFUSED = 2


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command is to answer: files or folders by name, a table, or a data set's test partition.

    label: the column of the table that has the true classes, "" for the usual one. every: whether each word of a
    recording is to be answered.
    """

    files: Mapping[str, str]
    table: Path | None = None
    label: str = ""
    data: Dataset | None = None
    every: bool = False

    @property
    def is_many(self) -> bool:
        """Whether there may be many rows; InputError where a folder stands beside what is none."""
        folders = [Path(own).is_dir() for own in self.files.values()]
        if any(folders) and not all(folders):
            raise InputError(f"predict takes folders or files, not both, got {', '.join(self.files.values())}")
        return self.table is not None or self.data is not None or self.every or any(folders)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is to be printed: the rows, as lines or as JSON, and what they come to. code: that the command ends with."""

    lines: list[str]
    json: list[str]
    summary: list[str]
    code: int


def predict_many(
    predictor: Predictor, asked: Asked, out: Path | None, top: int, report: Progress, probabilities: bool = False
) -> Told:
    """Answer all rows, and write them to `out` if it is given, where they then need not be printed."""
    rows, found = answered(predictor, asked, report)
    records: list[Record] = [record(rows, answer, place, top) for place, answer in enumerate(found)]
    told = summary(records, rows.groups, predictor.classes)
    if out is not None:
        classes = predictor.classes if probabilities else ()
        shares = [
            own.prediction.probabilities[0].tolist() if classes and own.prediction is not None else [] for own in found
        ]
        write_csv(out, records, rows.columns, shares, classes)
        told.append(f"written: {out}")
    shown = [] if out is not None else [line(predictor, rows, own, place, top) for place, own in enumerate(found)]
    code = REFUSED if any(answer.refused for answer in found) else 0
    return Told(lines=shown, json=[as_json(own) for own in records], summary=told, code=code)


def answered(predictor: Predictor, asked: Asked, report: Progress) -> tuple[Rows, list[Answer]]:
    """The rows that are asked for, and what became of each."""
    if asked.data is not None:
        return of_data(predictor, asked.data)
    if asked.every:
        return every_word(predictor, asked.files)
    if asked.table is not None:
        rows = of_table(asked.table, predictor, asked.label)
    else:
        rows = of_folders({name: Path(own) for name, own in asked.files.items()}, predictor)
    return rows, list(answers(predictor, rows, report))


def of_data(predictor: Predictor, dataset: Dataset) -> tuple[Rows, list[Answer]]:
    """The test partition of a data set, by its rows' numbers."""
    prediction, test = predict_partition(predictor, dataset), dataset.require_test()
    known = set(predictor.classes)
    labels = [name if (name := dataset.classes[number]) in known else "" for number in test.labels]
    groups = {name: own.tolist() for name, own in test.groups.items()}
    names = [str(row) for row in range(len(test))]
    rows = Rows(names=names, given={}, labels=labels, groups=groups, columns=groups)
    return rows, [Answer(prediction.at(row)) for row in range(len(test))]
