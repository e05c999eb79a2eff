"""Read the pickles of CIFAR-10's Python batches without executing code from them.

A pickle may name any function to be called. Here each allowed name stands for one of four harmless builders below, and
every other name is rejected. NumPy's own reconstruction is not used either: arrays are rebuilt from their bytes, after
a check of type and size. The Python version of the unpickler is used, as the C one allocates memory by numbers in the
file.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_lab.data.messages import short_line, shown
from cifar_lab.errors import DataError

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")
"""Allowed types of an array in a batch."""

_BROKEN = (
    *(pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError, KeyError, TypeError, ValueError),
    *(OverflowError, MemoryError, RecursionError, AssertionError, struct.error),
)


def unpickle(data: bytes) -> object:
    """Return the plain values and arrays pickled in `data`; text of Python 2 becomes `str`, byte by byte.

    Raises:
        DataError: `data` is not a pickle, or refers to anything but plain values and arrays of integers.
    """
    try:
        return _plain(_Unpickler(io.BytesIO(data), encoding="latin1").load())
    except _BROKEN as error:
        raise DataError(f"not a pickle of plain values and arrays: {short_line(error)}") from error


class _Array:
    """Array under construction: NumPy's pickles create an empty one, then give it a state."""

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        shape, dtype, is_fortran, data = state[-4:]
        self.value = _rebuilt(data, dtype, shape, "F" if is_fortran else "C")


class _DType:
    """Type under construction: its name is checked at once, its state gives the byte order."""

    def __init__(self, name: str) -> None:
        if name not in DTYPES:
            raise pickle.UnpicklingError(f"an array of type {shown(name)}; expected integers")
        self.value = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"an order of bytes {shown(order)}")
        self.value = self.value.newbyteorder(order)


class _Call:
    """Builder that a pickle can call but not change."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build

    def __call__(self, *args: Any) -> Any:
        return self.build(*args)

    def __setstate__(self, _: object) -> None:
        raise pickle.UnpicklingError("a builder was given a state")


def _rebuilt(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Return the array of these bytes; an error unless type, shape and number of bytes agree."""
    if isinstance(data, str):
        data = data.encode("latin1")
    if not (isinstance(data, bytes | bytearray) and isinstance(dtype, _DType)):
        raise pickle.UnpicklingError("an array that is not made of bytes")
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 4):
        raise pickle.UnpicklingError(f"an array of shape {shown(shape)}")
    if math.prod(shape) * dtype.value.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {shown(shape)} in {len(data):,} bytes")
    return np.frombuffer(bytes(data), dtype.value).reshape(shape, order="F" if order == "F" else "C")


def _encoded(text: str, encoding: str = "utf-8") -> bytes:
    """Return the bytes that Python 3 writes as text in pickles of protocol 2 and below."""
    if encoding not in ("latin1", "utf-8"):
        raise pickle.UnpicklingError(f"text encoded as {shown(encoding)}")
    return str(text).encode(encoding)


_BUILDERS = {
    **dict.fromkeys(
        [(f"{package}.multiarray", "_reconstruct") for package in ("numpy.core", "numpy._core")],
        _Call(lambda *_: _Array()),
    ),
    **dict.fromkeys(
        [(f"{package}.numeric", "_frombuffer") for package in ("numpy.core", "numpy._core")], _Call(_rebuilt)
    ),
    ("numpy", "ndarray"): _Call(lambda *_: _Array()),
    ("numpy", "dtype"): _Call(lambda name, *_: _DType(name)),
    ("_codecs", "encode"): _Call(_encoded),
}


class _Unpickler(pickle._Unpickler):
    """Unpickler that knows only the builders' names."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _BUILDERS[module, name]
        except (KeyError, TypeError):
            raise pickle.UnpicklingError(f"it asks for {shown(f'{module}.{name}')}") from None


def _plain(value: Any, depth: int = 0) -> Any:
    """Return `value` with its arrays finished; bytes become text, as Python 2 did not distinguish them."""
    if isinstance(value, _Array):
        if value.value is None:
            raise pickle.UnpicklingError("an array without values")
        return value.value
    if isinstance(value, bytes):
        return value.decode("latin1")
    if depth < 2 and isinstance(value, dict):
        return {_plain(key, depth + 1): _plain(each, depth + 1) for key, each in value.items()}
    if depth < 2 and isinstance(value, list | tuple):
        return [_plain(each, depth + 1) for each in value]
    return value
