"""CHECKSUM and DATASUM of FITS files (FITS standard 4.0, section 4.4.2.7 and appendix J)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ostcal.fits.cards import format_card, header_bytes


class OnesSum:
    """The running sum of FITS checksums: big-endian 32-bit words in ones' complement.

    Sums of parts may be added up, as carries go round: a part that begins at byte `offset` counts zeros before it.
    """

    def __init__(self, offset: int = 0) -> None:
        self._sum = 0
        self._rest = bytes(offset % 4)  # the start of an unfinished word: a strip of 16-bit samples may end inside one

    def add(self, samples: NDArray[np.uint8]) -> None:
        """Add bytes."""
        if self._rest:
            head = samples[: 4 - len(self._rest)]
            samples = samples[len(head) :]
            self._rest += head.tobytes()
            if len(self._rest) < 4:
                return
            self.add_number(int.from_bytes(self._rest, "big"))
        whole = len(samples) // 4 * 4
        self.add_number(int(np.add.reduce(samples[:whole].view(">u4"), dtype=np.uint64)))
        self._rest = samples[whole:].tobytes()

    def add_number(self, number: int) -> None:
        """Add a number with end-around carry."""
        total = self._sum + number
        while total >> 32:
            total = (total & 0xFFFFFFFF) + (total >> 32)
        self._sum = total

    @property
    def value(self) -> int:
        """The sum so far; an unfinished word counts as if zeros followed, as in the file."""
        total = self._sum + int.from_bytes(self._rest.ljust(4, b"\0"), "big")
        return (total & 0xFFFFFFFF) + (total >> 32)


def header_with_sums(cards: Sequence[str], data_sum: int = 0) -> bytes:
    """Return the bytes of a header with CHECKSUM and DATASUM behind `cards`, and END.

    Its length does not depend on `data_sum`, the sum of the samples.
    """

    def summed(checksum: str) -> bytes:
        # comments without the usual date: two equal runs write equal files
        return header_bytes(
            [
                *cards,
                *format_card("CHECKSUM", checksum, "HDU checksum"),
                *format_card("DATASUM", f"{data_sum:<10}", "data unit checksum"),
            ]
        )

    whole = OnesSum()
    whole.add(np.frombuffer(summed("0" * 16), np.uint8))
    whole.add_number(data_sum)
    return summed(_checksum_text(whole.value))


def _checksum_text(ones_sum: int) -> str:
    """Encode the complement of a sum as 16 letters and digits that make the whole sum zero (FITS standard, J.2)."""
    complement = 0xFFFFFFFF - ones_sum
    letters = [[0] * 4 for _ in range(4)]
    for position in range(4):
        byte = complement >> (24 - 8 * position) & 0xFF
        parts = [byte // 4 + 0x30] * 4
        parts[0] += byte % 4
        while any(0x3A <= part <= 0x40 or 0x5B <= part <= 0x60 for part in parts):
            for pair in (0, 2):
                if any(0x3A <= part <= 0x40 or 0x5B <= part <= 0x60 for part in parts[pair : pair + 2]):
                    parts[pair] += 1
                    parts[pair + 1] -= 1
        for row, part in enumerate(parts):
            letters[row][position] = part
    text = "".join(chr(code) for row in letters for code in row)
    return text[-1] + text[:-1]  # the string begins at column 12 of a card: one byte off the words
