"""The pixels of an image, or of every frame of an animation, with the metadata of their file."""

from dataclasses import dataclass

import pyvips

from app.imaging.metadata.origin import Origin


@dataclass(frozen=True)
class Picture:
    """One or more upright frames of equal size, in grey or RGB."""

    frames: tuple[pyvips.Image, ...]
    origin: Origin
    #: width and height before the decoder shrank the frames, if it did
    size: tuple[int, int]

    @property
    def first(self) -> pyvips.Image:
        return self.frames[0]

    def strip(self) -> pyvips.Image:
        """All frames as one image, stacked vertically, as libvips reads and writes animations."""
        if len(self.frames) == 1:
            return self.first
        strip = pyvips.Image.arrayjoin(list(self.frames), across=1).copy(interpretation=self.first.interpretation)
        strip.set_type(pyvips.GValue.gint_type, "page-height", self.first.height)
        strip.set_type(pyvips.GValue.array_int_type, "delay", list(self.origin.delays))
        strip.set_type(pyvips.GValue.gint_type, "loop", self.origin.loop)
        return strip
