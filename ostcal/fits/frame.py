"""Frames in files: what was read of their headers, and where their samples are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ostcal.fits.layout import ImageLayout
from ostcal.fits.sections import Readout
from ostcal.fits.tiling import Tiling
from ostcal.frames import FrameMetadata
from ostcal.xisf.blocks import DataBlock


@dataclass(frozen=True, kw_only=True)
class FitsPixels(ImageLayout):
    """Where the samples of a frame lie: all that is needed to read them."""

    path: str
    data_offset: int
    """Byte of the first sample in the file (in the unpacked stream of a packed one)."""
    word_scale: float = 0.0
    """What floats are multiplied by to be the 16-bit integers that they are; 0 for all other samples."""


@dataclass(frozen=True, kw_only=True)
class LoneImage:
    """What the only image of a file is where other files of the camera have several."""

    labels: tuple[str, ...]
    """What it may be called: its EXTNAME, alone and with EXTVER."""
    primary_cards: tuple[str, ...]
    own_cards: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FitsFrame(FitsPixels):
    """A frame in a FITS file, inspected but not read."""

    source: str
    """The file of the user: ``path`` itself, or the packed file that ``path`` was unpacked from."""
    metadata: FrameMetadata
    cards: tuple[str, ...]
    """The header as that of a primary HDU, without END; for plain primary HDUs exactly as it stands in the file."""
    hdu_index: int
    packed: Literal["none", "gzip", "fz", "xisf", "raw"]
    """``none`` where samples can be read in place; else `ostcal.fits.unpack.unpack` comes first."""
    tiling: Tiling | None = None
    """Of a tile-compressed image: what decoding takes."""
    block: DataBlock | None = None
    """Of an XISF file: where the samples are and how they are packed, until they are unpacked or compared."""
    bounds: tuple[float, float] | None = None
    """Of an XISF file of floats: what stands for black and white, until it is known whether its samples keep to it."""
    readout: Readout | None = None
    """Overscan to subtract and what to keep of a science frame; its metadata are those of what is kept."""
    primary_cards: tuple[str, ...] = ()
    """Of a file of several images: its primary header."""
    own_cards: tuple[str, ...] = ()
    """Of a file of several images: the header of this image alone."""
    unused: tuple[str, ...] = ()
    """Names of what else the file holds: tables, and images about others (`ostcal.fits.hdus.COMPANIONS`)."""
    plane: int | None = None
    """Of a stack of frames in one image: which one, from 0."""
    lone: LoneImage | None = None
    """Of a file of one image that has an EXTNAME."""

    @property
    def is_ready(self) -> bool:
        """Whether samples can be read now: they are not packed, and have no checksum to be compared with before."""
        return self.packed == "none" and (self.block is None or self.block.checksum is None)

    @property
    def extension(self) -> str | None:
        """Which image of a file of several it is; ``None`` for the image of a file of one."""
        return self.metadata.settings.extension

    @property
    def label(self) -> str:
        """What messages call it: the file, and of several images which: ``dark_001.fits[im1]``, ``a.fits[plane 3]``."""
        extension = "" if self.extension is None else f"[{self.extension}]"
        return f"{self.source}{extension}" + ("" if self.plane is None else f"[plane {self.plane}]")

    @property
    def possible_labels(self) -> tuple[str, ...]:
        """What the only image of a file may be called among several."""
        return self.lone.labels if self.lone is not None else ()

    def as_extension(self, label: str) -> FitsFrame:
        """Return the only image of a file as the image `label` of several, of which the file lacks the others."""
        if self.lone is None:
            return self
        metadata = replace(self.metadata, settings=replace(self.metadata.settings, extension=label))
        return replace(
            self, metadata=metadata, primary_cards=self.lone.primary_cards, own_cards=self.lone.own_cards, lone=None
        )
