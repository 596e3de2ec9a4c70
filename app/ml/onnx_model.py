"""Writes networks as ONNX models, for ONNX Runtime.

A model is a Protocol Buffers message: a sequence of fields, each with a number from onnx.proto and a value, ordered by
number. The package `onnx` would write the same bytes, but takes 27 MB.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum

IR_VERSION = 9
OPSET = 17
VARINT, LENGTH = 0, 2  # how a value is written
INT, STRING, INTS = 2, 3, 7  # types of attributes


class Kind(IntEnum):
    """ONNX element types, by NumPy's names."""

    FLOAT32 = 1
    UINT8 = 2
    INT8 = 3
    INT32 = 6


def tensor(name: str, kind: Kind, shape: Iterable[int], data: bytes) -> bytes:
    """A named constant; its data is little-endian."""
    dims = b"".join(_field(1, side) for side in shape)
    return dims + _field(2, kind) + _field(8, name) + _field(9, data)


def node(operator: str, inputs: Iterable[str], output: str, **attributes: int | str | Sequence[int]) -> bytes:
    """One operation of the graph; inputs and output are names of values."""
    fields = [_field(1, name) for name in inputs]
    fields += _field(2, output), _field(4, operator)
    fields += (_field(5, _attribute(name, value)) for name, value in sorted(attributes.items()))
    return b"".join(fields)


def images(name: str, shape: Iterable[int | str]) -> bytes:
    """An input or output of the graph: float32; a side with a name may have any size."""
    sides = b"".join(_field(1, _field(1 if isinstance(side, int) else 2, side)) for side in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, Kind.FLOAT32) + _field(2, sides)))


def model(
    name: str, nodes: Iterable[bytes], inputs: Iterable[bytes], outputs: Iterable[bytes], constants: Iterable[bytes]
) -> bytes:
    """A complete model, from parts that the functions above return."""
    parts = ((1, nodes), (2, [name.encode()]), (5, constants), (11, inputs), (12, outputs))
    graph = b"".join(_field(number, part) for number, listed in parts for part in listed)
    operators = _field(1, "") + _field(2, OPSET)  # those of ONNX itself
    return _field(1, IR_VERSION) + _field(7, graph) + _field(8, operators)


def _attribute(name: str, value: int | str | Sequence[int]) -> bytes:
    if isinstance(value, int):
        kind, fields = INT, _field(3, value)
    elif isinstance(value, str):
        kind, fields = STRING, _field(4, value)
    else:
        kind, fields = INTS, b"".join(_field(8, number) for number in value)
    return _field(1, name) + fields + _field(20, kind)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | VARINT) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | LENGTH) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """A number in seven bits per byte, lowest first; the eighth bit means that another byte follows."""
    if value < 0:
        raise ValueError(f"negative numbers are not written: {value}")
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
