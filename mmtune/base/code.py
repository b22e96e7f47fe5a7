"""A digest of what a user's own functions and classes do, by which a change of them between two calls is seen.

Of bytecode, as a notebook has no file to compare: a comment or an empty line changes nothing.
"""

from __future__ import annotations

import dis
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, ModuleType

import numpy as np

PACKAGE = __name__.partition(".")[0]
INSTALLED = ("site-packages", "dist-packages")
# What Python or a library writes into a class, or where it stands.
WRITTEN = ("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__",
           "__annotations__", "__annotate_func__", "__annotations_cache__", "__slotnames__", "_abc_impl")  # fmt: skip


def own_code(used: Iterable[object]) -> str:
    """The first digits of the SHA-256 of the code of what is a user's own among `used`, and of all that this uses of
    theirs: base classes, functions, constants. "" where nothing is.
    """
    known: dict[int, object] = {}
    lines = [line for one in used if is_own(one) for line in lines_of(one, known)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12] if lines else ""


def is_own(value: object) -> bool:
    """Whether a function, a class, a module or what is called like a function comes from neither mmtune, nor Python,
    nor an installed package."""
    if isinstance(value, partial):
        return is_own(value.func)
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    top = str(name).partition(".")[0]
    if not isinstance(name, str) or top == PACKAGE or top in sys.stdlib_module_names - {"__main__"}:
        return False
    file = str(getattr(sys.modules.get(name), "__file__", None) or "")
    return not any(f"/{folder}/" in file for folder in INSTALLED)


def lines_of(value: object, known: dict[int, object]) -> Iterator[str]:
    """What a value is, in lines; known: what has been told of, by its id."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if is_plain(value):
        yield plain(value)
        return
    yield f"{type(value).__qualname__} {getattr(value, '__qualname__', '')}"
    if id(value) in known:
        return
    known[id(value)] = value
    if isinstance(value, FunctionType):
        yield from of_function(value, known)
    elif isinstance(value, property | partial):
        inner = (value.fget, value.fset) if isinstance(value, property) else (value.func, value.args, value.keywords)
        for one in inner:
            yield from lines_of(one, known)
    elif isinstance(value, type) and is_own(value):
        for one in (*value.__bases__, *(own for name, own in sorted(vars(value).items()) if name not in WRITTEN)):
            yield from lines_of(one, known)
    elif isinstance(value, tuple | list | Mapping):
        for one in value.items() if isinstance(value, Mapping) else value:
            yield from lines_of(one, known)
    elif isinstance(value, np.ndarray) or type(value).__module__ == "torch":
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        yield f"{array.shape} {'' if array.dtype.hasobject else hashlib.sha256(array.tobytes()).hexdigest()}"
    elif callable(value) and not isinstance(value, type) and is_own(value):
        yield from lines_of(type(value), known)
        yield from lines_of(getattr(value, "__dict__", {}), known)


def of_function(function: FunctionType, known: dict[int, object]) -> Iterator[str]:
    """The code of a function, its defaults, and what it uses by name, where it is the user's own."""
    if not is_own(function):
        return
    yield from of_code(function.__code__, function.__doc__)
    for one in (function.__defaults__, function.__kwdefaults__, *held(function)):
        yield from lines_of(one, known)
    names = sorted(names_in(function.__code__))
    for name in sorted(globals_in(function.__code__)):
        found = function.__globals__.get(name)
        yield from lines_of(found, known)
        if isinstance(found, ModuleType) and is_own(found):
            for own in names:
                yield from lines_of(vars(found).get(own), known)


def held(function: FunctionType) -> Iterator[object]:
    """What a closure holds by now."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # empty
            yield cell.cell_contents


def of_code(code: CodeType, doc: str | None) -> Iterator[str]:
    """Bytecode, with the functions in it; doc: the text that explains it and does nothing."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}"
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from of_code(const, None)
        elif const != doc:
            yield plain(const)


def names_in(code: CodeType) -> set[str]:
    """The names that code and the functions in it look up."""
    inner = (names_in(const) for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*inner)


def globals_in(code: CodeType) -> set[str]:
    """Those of them that are no attribute's: a global of an attribute's name is somebody else's."""
    inner = (globals_in(const) for const in code.co_consts if isinstance(const, CodeType))
    own = {str(one.argval) for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*inner)


def is_plain(value: object) -> bool:
    """Whether a value is told by its text, which says nothing of where it lies in memory."""
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(is_plain, value))
    return value is None or value is ... or type(value) in (bool, int, float, complex, str, bytes)


def plain(value: object) -> str:
    """The text of a plain value; a set has no order."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(plain, value)))}}}"
    return f"({', '.join(map(plain, value))})" if isinstance(value, tuple | list) else repr(value)
