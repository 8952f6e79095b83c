"""Instructions as numbers: UTF-8 bytes plus one, so that 0 is padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wmdsl.data import errors


def encode_text(text: str, length: int, where: str | Path = "an instruction") -> np.ndarray:
    """The bytes of `text` plus one, padded with 0: int64 [length].

    Raises DataError if the text does not fit: a cut instruction means something else.
    """
    encoded = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    if len(encoded) > length:
        raise errors.text_too_long(text, length, where)
    padded = np.zeros(length, dtype=np.int64)
    padded[: len(encoded)] = encoded.astype(np.int64) + 1
    return padded
