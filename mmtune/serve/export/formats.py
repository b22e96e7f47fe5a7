"""What a graph can be written as: a file that says by itself what its outputs mean, and how such a file is run."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from mmtune.base.errors import InputError, first_line
from mmtune.serve.export.graph import LOGITS, PROBABILITIES, ROWS, quietly

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]


@dataclass(frozen=True, kw_only=True)
class Format:
    """to_bytes: the file of a graph with what it says of itself, texts by name. loaded: what runs such a file.

    needs: modules of the extra `export`.
    """

    to_bytes: Callable[[ExportedProgram, Mapping[str, str]], bytes]
    loaded: Callable[[bytes], Run]
    needs: tuple[str, ...] = ()


def to_onnx(graph: ExportedProgram, about: Mapping[str, str]) -> bytes:
    """An ONNX file, with `about` as its metadata_props; InputError where it cannot say an operation of the network."""
    names = list(graph.graph_signature.user_inputs)
    try:
        with torch.no_grad(), quietly():
            made = torch.onnx.export(
                graph,
                kwargs=graph.example_inputs[1],
                input_names=names,
                output_names=[PROBABILITIES, LOGITS],
                dynamic_shapes={name: {0: ROWS} for name in names},
                dynamo=True,
                verbose=False,
            )
            assert made is not None
            made.model.metadata_props.update(about)
            return bytes(made.model_proto.SerializeToString())
    except Exception as error:  # whatever a network does, and a file of more than 2 GiB
        raise InputError(f"the network cannot be written as ONNX, try --to pt2: {first_line(error)}") from error


def onnx_loaded(content: bytes) -> Run:
    """An ONNX file by onnxruntime, on the CPU."""
    from onnxruntime import InferenceSession

    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [own.name for own in session.get_outputs()]
    return lambda banks: dict(zip(names, session.run(names, dict(banks)), strict=True))


def to_pt2(graph: ExportedProgram, about: Mapping[str, str]) -> bytes:
    """A file of torch.export, with `about` as its extra files."""
    file = io.BytesIO()
    with quietly():
        torch.export.save(graph, file, extra_files=dict(about))
    return file.getvalue()


def pt2_loaded(content: bytes) -> Run:
    """A file of torch.export by torch, on the CPU."""
    with quietly():
        model = torch.export.load(io.BytesIO(content)).module()

    def run(banks: Arrays) -> Arrays:
        with torch.no_grad():
            found = model(**{name: torch.from_numpy(np.ascontiguousarray(own)) for name, own in banks.items()})
        return {name: own.numpy() for name, own in found.items()}

    return run


FORMATS: Mapping[str, Format] = {
    "onnx": Format(to_bytes=to_onnx, loaded=onnx_loaded, needs=("onnx", "onnxscript", "onnxruntime")),
    "pt2": Format(to_bytes=to_pt2, loaded=pt2_loaded),
}


def format_of(name: str) -> Format:
    """A format by its name; InputError where there is none such, or a package that it needs is missing."""
    if name not in FORMATS:
        raise InputError(f"--to must be one of {', '.join(FORMATS)}, got {name!r}")
    missing = [module for module in FORMATS[name].needs if find_spec(module) is None]
    if missing:
        raise InputError(f"--to {name} needs {', '.join(missing)}, not installed here: pip install 'mmtune[export]'")
    return FORMATS[name]
