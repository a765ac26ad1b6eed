"""zstd's reader, which Python's own library lacks: libzstd, if the machine has it."""

import ctypes
import ctypes.util

OUT_BYTES = 1 << 17


class Buffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer."""

    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t)]


def load():
    """The library, or None."""
    name = ctypes.util.find_library("zstd")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
    library.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, ctypes.POINTER(Buffer), ctypes.POINTER(Buffer)]
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    return library


LIBRARY = load()


def unpack(data):
    """What is in a frame, or in frames. Raises ValueError."""
    stream = LIBRARY.ZSTD_createDStream()
    source = ctypes.create_string_buffer(data, len(data))
    piece = ctypes.create_string_buffer(OUT_BYTES)
    given = Buffer(ctypes.cast(source, ctypes.c_void_p), len(data), 0)
    out = bytearray()
    try:
        while True:
            taken = Buffer(ctypes.cast(piece, ctypes.c_void_p), OUT_BYTES, 0)
            left = LIBRARY.ZSTD_decompressStream(stream, ctypes.byref(taken), ctypes.byref(given))
            if LIBRARY.ZSTD_isError(ctypes.c_size_t(left)):
                raise ValueError("no zstd frame")
            out += piece.raw[:taken.at]
            if given.at == given.size and taken.at < OUT_BYTES:
                if left:
                    raise ValueError("a zstd frame without its end")
                return bytes(out)
    finally:
        LIBRARY.ZSTD_freeDStream(stream)
