"""What the values of a bank are, and how a file becomes one: a model is given at predict time what it was trained on.

A kind of values is one frozen class, in the file of what it is made from, and a name in `kinds`. It is written as JSON
beside its values.
"""

from mmtune.data.forms.arrays import Array, Ready
from mmtune.data.forms.form import Form
from mmtune.data.forms.kinds import FORMS, dtype_of, form_from_json, form_to_json
from mmtune.data.forms.pictures import Digit, Picture
from mmtune.data.forms.sounds import LogMel, Mfcc, Sound, Speech, Waveform
from mmtune.data.forms.vectors import Vector, as_float, is_nothing

__all__ = [
    "FORMS",
    "Array",
    "Digit",
    "Form",
    "LogMel",
    "Mfcc",
    "Picture",
    "Ready",
    "Sound",
    "Speech",
    "Vector",
    "Waveform",
    "as_float",
    "dtype_of",
    "form_from_json",
    "form_to_json",
    "is_nothing",
]
