"""Many answers as lines, as JSON and as a CSV file, and what they are worth where the true classes are known."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmtune.base.files import write_named
from mmtune.data.building.tables import LABEL
from mmtune.serve.answer.many import Answer, Rows
from mmtune.serve.answer.prediction import Prediction
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.answer.telling import likeliest, listed, remarks
from mmtune.train.metrics import by_member, calibration_error, confusion, macro_f1

FLAGS = ("abstained", "agree", "familiar", "trained")
COLUMNS = ("row", "class", "probability", *FLAGS, "set", "label", "refused")
Record = dict[str, Any]


def record(rows: Rows, answer: Answer, place: int, top: int) -> Record:
    """A row by its name, with its label if that is known: `one`, or why it was refused."""
    label = rows.labels[place] if rows.labels else ""
    known = {"label": label} if label else {}
    found = answer.prediction
    told = {"refused": answer.refused} if found is None else one(found, top)
    return {"row": rows.names[place], **told, **known}


def one(found: Prediction, top: int) -> Record:
    """A row by itself as plain JSON: the most probable classes, what each bank says alone, whether to believe it."""
    trained = {"trained": [bank for bank, own in found.trained.items() if own[0]]} if found.trained else {}
    return {
        "class": found.names[0],
        "probability": round(float(found.probability[0]), 6),
        "top": likeliest(found, top),
        "set": list(found.set[0]),
        "abstained": bool(found.abstained[0]),
        "agree": bool(found.agree[0]),
        "familiar": bool(found.familiar[0]),
        **trained,
        "alone": {bank: likeliest(own, 1) for bank, own in found.alone.items()},
        "missing": list(found.missing),
        "strange": {bank: why[0] for bank, why in found.strange.items() if why[0]},
    }


def line(predictor: Predictor, rows: Rows, answer: Answer, place: int, top: int) -> str:
    """One row to print."""
    name, found = rows.names[place], answer.prediction
    if found is None:
        return f"{name}  refused: {answer.refused}"
    label = rows.labels[place] if rows.labels else ""
    wrong = [f"is {label}"] if label and label != found.names[0] else []
    return "  ".join([name, listed(likeliest(found, top)), *wrong, *remarks(predictor, found, 0)])


def write_csv(
    path: Path,
    records: Sequence[Record],
    given: Mapping[str, Sequence[str]],
    probabilities: Sequence[Sequence[float]],
    classes: Sequence[str],
) -> None:
    """Write a CSV file, whole or not at all: what was given of each row as it was, COLUMNS, and `p(CLASS)` of classes.

    A given column of a name that is taken is called `NAME (given)`, but for `label`, which it then is.
    InputError where it cannot be written.
    """
    ours = [*(name for name in COLUMNS if name != LABEL or name not in given), *(f"p({name})" for name in classes)]
    theirs = dict(zip(given, renamed(list(given), ours), strict=True))
    text = io.StringIO()
    writer = csv.DictWriter(text, [ours[0], *theirs.values(), *ours[1:]], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for place, (own, shares) in enumerate(zip(records, probabilities, strict=True)):
        flags: Record = {name: int(bool(own[name])) for name in FLAGS if name in own}
        told: Record = {**own, **flags, "set": ", ".join(own.get("set", []))}
        told |= {f"p({name})": f"{share:.6g}" for name, share in zip(classes, shares, strict=False)}
        writer.writerow(told | {theirs[name]: cells[place] for name, cells in given.items()})
    write_named(path, text.getvalue().encode())


def renamed(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names, those that are taken with `(given)` behind them, as often as makes them differ from all others."""
    found: list[str] = []
    for name in names:
        own = name
        while own in taken or own in found or (own != name and own in names):
            own += " (given)"
        found.append(own)
    return found


def as_json(own: Record) -> str:
    """A record on one line."""
    return json.dumps(own, ensure_ascii=False)


def summary(records: Sequence[Record], groups: Mapping[str, Sequence[str]], classes: Sequence[str]) -> list[str]:
    """How many rows were answered, and of those whose class is known how many rightly, by group too."""
    refused, abstained = (sum(bool(own.get(name)) for own in records) for name in ("refused", "abstained"))
    lines = [f"{len(records):,} row{'s' * (len(records) != 1)}: {refused:,} refused, {abstained:,} better not answered"]
    places = [n for n, own in enumerate(records) if "label" in own and "class" in own]
    if not places:
        return lines
    known = [records[n] for n in places]
    right = np.array([own["class"] == own["label"] for own in known])
    lines.append(f"of {len(known):,} with a label: {', '.join(scores(known, right, classes))}")
    lines += new_alone(known, right, classes)
    answered = np.array([not own["abstained"] for own in known])
    if answered.any() and not answered.all():
        lines.append(f"of the {int(answered.sum()):,} answered: accuracy {right[answered].mean():.4f}")
    for name, own in groups.items():
        lines += by_group(name, [own[n] for n in places], right)
    return lines


def new_alone(known: Sequence[Record], right: np.ndarray, classes: Sequence[str]) -> list[str]:
    """How many labelled records are of what the model was trained or chosen on, and what the others are worth."""
    new = np.array([not own.get("trained") for own in known])
    if new.all():
        return []
    others = [own for own, is_new in zip(known, new, strict=True) if is_new]
    told = (
        f"of the other {len(others):,}: {', '.join(scores(others, right[new], classes))}" if others else "none is new"
    )
    return [f"{len(known) - len(others):,} of these are what it was trained or chosen on; {told}"]


def scores(known: Sequence[Record], right: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Accuracy, macro-F1 and calibration error of labelled records."""
    number = {name: place for place, name in enumerate(classes)}
    labels, said = (torch.tensor([number[own[name]] for own in known]) for name in ("label", "class"))
    sure = torch.tensor([own["probability"] for own in known], dtype=torch.float64)
    return [
        f"accuracy {right.mean():.4f}",
        f"macro-F1 {macro_f1(confusion(labels, said, len(classes))):.4f}",
        f"calibration error {calibration_error(sure, torch.from_numpy(right)):.4f}",
    ]


def by_group(name: str, members: Sequence[str], right: np.ndarray) -> list[str]:
    """The mean accuracy over the members of a group and the worst, where there are several and no row has its own."""
    own = np.array(members)
    there, counts, shares = by_member(own[own != ""], right[own != ""])
    if not 1 < len(there) <= len(own) / 2:
        return []
    worst = int(shares.argmin())
    told = f"worst {there[worst]} {shares[worst]:.4f} of {counts[worst]} rows"
    return [f"{name}: mean accuracy {shares.mean():.4f} of {len(there)}, {told}"]
