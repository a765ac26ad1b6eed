"""The codecs of record batches with Python's own library alone.

gzip is real. Snappy, LZ4 and zstd are written as stored blocks, which their formats allow and every reader takes;
Snappy and LZ4 are read in full, so that what a broker packed anew can be compared. Packed zstd can't be read.
"""

import struct
import zlib

NAMES = ("none", "gzip", "snappy", "lz4", "zstd")
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
XERIAL = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
LZ4_MAGIC = b"\x04\x22\x4d\x18"
BLOCK = 1 << 15


class Unreadable(Exception):
    """Packed bytes that can't be read, or not here."""


def pack(codec, data):
    if codec == GZIP:
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        return packer.compress(data) + packer.flush()
    if codec == SNAPPY:
        blocks = (snappy_stored(data[at:at + BLOCK]) for at in range(0, max(len(data), 1), BLOCK))
        return XERIAL + b"".join(struct.pack(">i", len(block)) + block for block in blocks)
    if codec == LZ4:
        descriptor = b"\x60\x40"
        head = LZ4_MAGIC + descriptor + bytes([xxh32(descriptor) >> 8 & 255])
        blocks = (data[at:at + BLOCK] for at in range(0, len(data), BLOCK))
        return head + b"".join(struct.pack("<I", len(block) | 1 << 31) + block for block in blocks) + b"\0\0\0\0"
    if codec == ZSTD:
        pieces = [data[at:at + BLOCK] for at in range(0, max(len(data), 1), BLOCK)]
        out = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data))
        for piece in pieces:
            head = (piece is pieces[-1]) | len(piece) << 3
            out += struct.pack("<I", head)[:3] + piece
        return out
    return data


def unpack(codec, data):
    try:
        if codec == NONE:
            return data
        if codec == GZIP:
            return zlib.decompress(data, 31)
        if codec == SNAPPY:
            return unpack_snappy(data)
        if codec == LZ4:
            return unpack_lz4(data)
    except (zlib.error, IndexError, struct.error) as error:
        raise Unreadable(str(error)) from error
    raise Unreadable("no reader for this codec")


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def snappy_stored(data):
    out = varint(len(data))
    if not data:
        return out
    return out + b"\xf4" + struct.pack("<H", len(data) - 1) + data


def unpack_snappy(data):
    if data[:8] != XERIAL[:8]:
        return unpack_snappy_block(data)
    out, at = b"", len(XERIAL)
    while at < len(data):
        size = struct.unpack_from(">i", data, at)[0]
        out += unpack_snappy_block(data[at + 4:at + 4 + size])
        at += 4 + size
    return out


def unpack_snappy_block(data):
    size = shift = at = 0
    while True:
        byte = data[at]
        at += 1
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        kind = tag & 3
        if kind == 0:
            length = (tag >> 2) + 1
            if length > 60:
                extra = length - 60
                length = int.from_bytes(data[at:at + extra], "little") + 1
                at += extra
            out += data[at:at + length]
            at += length
            continue
        if kind == 1:
            length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[at]
            at += 1
        else:
            width = 2 if kind == 2 else 4
            length, offset = (tag >> 2) + 1, int.from_bytes(data[at:at + width], "little")
            at += width
        copy(out, offset, length)
    if len(out) != size:
        raise Unreadable(f"{len(out)} bytes of {size}")
    return bytes(out)


def unpack_lz4(data):
    if data[:4] != LZ4_MAGIC:
        raise Unreadable("no LZ4 frame")
    flags, at = data[4], 7
    at += 8 if flags & 8 else 0
    out = bytearray()
    while True:
        head = struct.unpack_from("<I", data, at)[0]
        at += 4
        if head == 0:
            return bytes(out)
        size = head & 0x7FFFFFFF
        block = data[at:at + size]
        at += size + (4 if flags & 16 else 0)
        if head >> 31:
            out += block
        else:
            unpack_lz4_block(block, out)


def unpack_lz4_block(block, out):
    at = 0
    while True:
        token = block[at]
        at += 1
        length, at = lz4_length(block, at, token >> 4)
        out += block[at:at + length]
        at += length
        if at >= len(block):
            return
        offset = struct.unpack_from("<H", block, at)[0]
        length, at = lz4_length(block, at + 2, token & 15)
        copy(out, offset, length + 4)


def lz4_length(block, at, length):
    if length == 15:
        while True:
            byte = block[at]
            at += 1
            length += byte
            if byte != 255:
                break
    return length, at


def copy(out, offset, length):
    if not 0 < offset <= len(out):
        raise Unreadable(f"a copy from {offset} back at {len(out)}")
    for _ in range(length):
        out.append(out[-offset])


def xxh32(data):
    """xxHash32 with seed 0 of fewer than 16 bytes, which is all that a frame's head needs."""
    first, second, third, fourth, fifth = 2654435761, 2246822519, 3266489917, 668265263, 374761393
    mask = 0xFFFFFFFF
    value = (fifth + len(data)) & mask
    at = 0
    while at + 4 <= len(data):
        value = value + struct.unpack_from("<I", data, at)[0] * third & mask
        value = (value << 17 | value >> 15) * fourth & mask
        at += 4
    for byte in data[at:]:
        value = value + byte * fifth & mask
        value = ((value << 11 & mask | value >> 21) & mask) * first & mask
    value = (value ^ value >> 15) * second & mask
    value = (value ^ value >> 13) * third & mask
    return value ^ value >> 16
