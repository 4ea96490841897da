"""A sentence as a vector, without a language model: words and pairs of words, hashed (Weinberger et al. 2009)."""

from __future__ import annotations

import re
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray


def hashed(sentence: str, size: int) -> NDArray[np.float32]:
    """`size` numbers of length 1 (all 0 for a sentence without words): each word, and each two neighbours, adds 1 or -1
    to a place that its letters alone decide, on every machine the same (arXiv 0902.2206)."""
    words = re.findall(r"\w+", sentence.lower())
    found = np.zeros(size, np.float32)
    for part in [*words, *(f"{one} {other}" for one, other in pairwise(words))]:
        place, sign = divmod(crc32(part.encode()), 2)
        found[place % size] += 1 - 2 * sign
    length = float(np.linalg.norm(found))
    return found / np.float32(length) if length else found
