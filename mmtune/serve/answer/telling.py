"""A prediction in words: the class, what each bank alone would say, and whether to believe it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mmtune.data.forms import Vector
from mmtune.networks.vectors import TOGETHER
from mmtune.serve.answer.prediction import Prediction
from mmtune.serve.answer.predictor import Predictor
from mmtune.train.scale import SURE

MOST_TOLD = 20
"""Of a larger set of classes so many are named."""


def describe(predictor: Predictor, prediction: Prediction, row: int = 0, top: int = 1) -> str:
    """A row in lines to print. top: of so many classes, if several, the probabilities, the most probable one first."""
    lines = {"class": prediction, **{f"{name} alone": said for name, said in prediction.alone.items()}}
    width = max(map(len, lines))
    names = max(len(said.names[row]) for said in lines.values())
    told = [
        f"{name:{width}}  {said.names[row]:{names}}  probability {said.probability[row]:.4f}"
        for name, said in lines.items()
    ]
    if top > 1:
        told.insert(1, f"{'top':{width}}  {listed(likeliest(prediction.at(row), top))}")
    return "\n".join([*told, set_line(predictor, prediction, row, width), *remarks(predictor, prediction, row)])


def likeliest(found: Prediction, top: int) -> dict[str, float]:
    """The most probable classes of a row by itself, with their probabilities."""
    shares, label = found.probabilities[0], int(found.label[0])
    order = [label, *(n for n in np.argsort(-shares, kind="stable") if n != label)]
    return {found.classes[number]: round(float(shares[number]), 6) for number in order[:top]}


def listed(shares: Mapping[str, float]) -> str:
    """Classes with their probabilities, on a line."""
    return ", ".join(f"{name} {decimals(share)}" for name, share in shares.items())


def set_line(predictor: Predictor, prediction: Prediction, row: int, width: int) -> str:
    """The set of classes that holds the true one so often, `class` in a column of so many characters."""
    members = prediction.set[row]
    more = f" and {len(members) - MOST_TOLD} more" if len(members) > MOST_TOLD else ""
    scale = predictor.calibration.alone.get(prediction.by) or predictor.calibration.fused
    said = f"holds the true class {share(predictor.caution.coverage)} of the time"
    if not scale.least(predictor.caution.coverage):
        said = f"all of them: {scale.units} independent units validated it, too few to leave one out so surely"
    return f"{'set':{width}}  {', '.join(members[:MOST_TOLD])}{more}  {said}"


def remarks(predictor: Predictor, prediction: Prediction, row: int) -> list[str]:
    """What is to be known of a row beside its class: what is missing, who disagrees, why it abstains."""
    found = [] if not prediction.missing else [without(predictor, prediction)]
    if not prediction.agree[row]:
        said = [
            f"{called(predictor, bank)} {verb(predictor, bank, 'says', 'say')} "
            f"{own.names[row]} ({decimals(own.probability[row])})"
            for bank, own in prediction.alone.items()
        ]
        found.append(", ".join(said) + nearer(predictor, prediction, row))
    if not prediction.comparable and len(predictor.forms) - len(prediction.missing) > 1:
        found.append("its parts cannot be compared: this network has no answer of each bank alone")
    again = [bank for bank, own in prediction.trained.items() if own[row]]
    found += [f"{subject(predictor, bank)} what it was trained or chosen on" for bank in again]
    unknown = [called(predictor, bank) for bank in prediction.strange if not predictor.usual.covers(bank)]
    if unknown:
        found.append(f"not known of the {words(unknown)}: whether it is like anything in training")
    return [*found, *abstaining(predictor, prediction, row)]


def nearer(predictor: Predictor, prediction: Prediction, row: int) -> str:
    """Whose answer counts where banks contradict each other, "" where it is the fusion's."""
    bank = prediction.decider[row] if prediction.decider else ""
    return f": the {called(predictor, bank)} is more like training" if bank else ""


def without(predictor: Predictor, prediction: Prediction) -> str:
    """That banks are missing, and what answered."""
    lacking = words([called(predictor, bank) for bank in prediction.missing])
    one = len(prediction.missing) == 1
    are = verb(predictor, prediction.missing[0]) if one else "are"
    if prediction.by:
        return f"answered by the {called(predictor, prediction.by)} alone: the {lacking} {are} missing"
    return f"answered as learnt without {'it' if one else 'them'}: the {lacking} {are} missing"


def abstaining(predictor: Predictor, prediction: Prediction, row: int) -> list[str]:
    """Why a row is better not answered, [] where it is."""
    found = [
        f"abstains: {subject(predictor, bank)} like nothing in training ({why[row]})"
        for bank, why in prediction.strange.items()
        if why[row]
    ]
    asked = predictor.caution.abstain_at
    if not prediction.agree[row]:
        parts = words([called(predictor, bank) for bank in prediction.alone])
        found.append(f"abstains: {parts} contradict each other")
    if asked is not None and prediction.agree[row] and prediction.probability[row] < prediction.threshold:
        scale = predictor.calibration.alone[prediction.by] if prediction.by else predictor.calibration.fused
        evidence = f"{scale.rows:,} validation rows of {scale.units:,} independent units"
        of = f"({share(SURE)} sure, by {evidence})"
        if math.isinf(prediction.threshold):
            found.append(f"abstains: no probability is known to keep errors to {share(asked)} {of}")
        else:
            rule = f"below {prediction.threshold:.4f}, from which on at most {share(asked)} of answers are wrong"
            found.append(f"abstains: {rule} {of}")
    return found


def subject(predictor: Predictor, bank: str) -> str:
    """The beginning of a sentence about what was given for a bank, or for all."""
    return "all of it together is" if bank == TOGETHER else f"the {called(predictor, bank)} {verb(predictor, bank)}"


def verb(predictor: Predictor, bank: str, one: str = "is", several: str = "are") -> str:
    """The verb that goes with what a bank is called."""
    return several if called(predictor, bank) == Vector.source else one


def called(predictor: Predictor, bank: str) -> str:
    """What a bank is called in words: a picture or a recording, where only one of that kind is read."""
    source = predictor.forms[bank].source
    alike = [name for name, form in predictor.forms.items() if form.source == source]
    return source if source and len(alike) == 1 else bank


def words(names: Sequence[str]) -> str:
    """Names as they are read."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def share(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:g} %"


def decimals(probability: float) -> str:
    """A probability in two decimals, without its zero."""
    return f"{probability:.2f}".removeprefix("0")
