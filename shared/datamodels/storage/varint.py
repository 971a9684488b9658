"""Encode whole numbers as Protocol Buffers and Thrift do: seven bits in a byte, the lowest first."""


def varint(value: int) -> bytes:
    """Return the bytes of a number that is not negative. All but the last have their highest bit set."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
