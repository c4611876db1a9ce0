"""Extensions that files of several images have, by which a file is known to lack all but one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from ostcal.frames import CameraSettings, FrameMetadata

_Image = tuple[str | None, str | None, int, int]
"""Camera, extension, width and height."""


class FrameImage(Protocol):
    """An image of a file, of which files of the camera may have several."""

    @property
    def metadata(self) -> FrameMetadata:
        """What is known of it."""

    @property
    def possible_labels(self) -> tuple[str, ...]:
        """What the only image of a file may be called among several."""

    def as_extension(self, label: str) -> Self:
        """Return the only image of a file as the image `label` of several."""


@dataclass(frozen=True)
class KnownExtensions:
    """Images of files of several, and of files of one."""

    images: frozenset[_Image]

    @classmethod
    def of(cls, frames: Iterable[FrameMetadata]) -> KnownExtensions:
        """Collect the images of raw frames."""
        return cls.of_settings((m.settings, m.width, m.height) for m in frames if not m.is_master)

    @classmethod
    def of_settings(cls, images: Iterable[tuple[CameraSettings, int, int]]) -> KnownExtensions:
        """Collect images of a width and a height."""
        return cls(frozenset((s.camera, s.extension, width, height) for s, width, height in images))

    def label_of(self, image: FrameImage, metadata: FrameMetadata) -> str | None:
        """Return which of several images the only one of a file is: same camera, EXTNAME and size; else ``None``.

        `metadata` are those of the image when it is trimmed.
        """
        size = metadata.width, metadata.height
        camera = metadata.settings.camera
        return next((label for label in image.possible_labels if (camera, label, *size) in self.images), None)

    def has_whole_files(self, metadata: FrameMetadata) -> bool:
        """Return whether files of one image are known, of the camera and size of a frame."""
        return (metadata.settings.camera, None, metadata.width, metadata.height) in self.images
