"""The manifest of a set as JSON, and its `<picture>`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from app.formats import FORMATS
from app.imaging.geometry import Size
from app.imaging.responsive.breakpoints import Breakpoints
from app.imaging.responsive.placeholders import Placeholders
from app.parameters import WebParams

BY_CHOICE = ("avif", "webp", "jpeg")  # smallest files first, as browsers take the first format that they support


@dataclass(frozen=True, kw_only=True)
class WebImage:
    """One file of a set."""

    #: name of the file
    file: str
    format: str
    width: int
    height: int
    bytes: int
    quality: int
    #: None: not measured
    ssim: float | None = None


@dataclass(frozen=True, kw_only=True)
class WebSet:
    """Everything that a web page needs for one image."""

    params: WebParams
    #: width and height of the image that the set was made from
    own: Size
    has_alpha: bool
    breakpoints: Breakpoints
    #: ascending by width within each format
    images: Sequence[WebImage]
    placeholders: Placeholders

    def manifest(self) -> str:
        """The set as JSON."""
        found: dict[str, Any] = {
            "width": self.own[0],
            "height": self.own[1],
            "alt": self.params.alt,
            "sizes": self._sizes,
            "src": self._url(self._fallback),
            "sources": [
                {"type": FORMATS[format_].media_type, "srcset": self._srcset(format_)} for format_ in self._formats
            ],
            "images": [self._described(image) for image in self.images],
            "capped": {"widths": list(self.breakpoints.capped), "to": self.own[0]} if self.breakpoints.capped else None,
            **asdict(self.placeholders),
        }
        return json.dumps(found, ensure_ascii=False, indent=2)

    def picture(self) -> str:
        """The set as HTML, in ASCII."""
        *better, last = self._formats
        lines = ["<picture>"]
        for format_ in better:
            source = {"type": FORMATS[format_].media_type, "srcset": self._srcset(format_), "sizes": self._sizes}
            lines.append(f"  <source{_attributes(source)}>")
        width, height = self._shown
        img = {
            "src": self._url(self._fallback),
            "srcset": self._srcset(last),
            "sizes": self._sizes,
            "width": str(width),
            "height": str(height),
            "alt": self.params.alt,
            "loading": self.params.loading,
            "decoding": "async",
            "style": self._style,
        }
        lines += [f"  <img{_attributes(img)}>", "</picture>", ""]
        return "\n".join(lines).encode("ascii", "xmlcharrefreplace").decode()

    @property
    def _formats(self) -> list[str]:
        return [format_ for format_ in BY_CHOICE if format_ in self.params.formats]

    def _of(self, format_: str) -> list[WebImage]:
        return [image for image in self.images if image.format == format_]

    @property
    def _fallback(self) -> WebImage:
        """The image for browsers that support none of the other formats."""
        return self._of(self._formats[-1])[-1]

    @property
    def _css_width(self) -> int | None:
        """The width in CSS pixels if the image has one size, at most its own width; None: the page decides."""
        return None if self.params.width is None else min(self.params.width, self.own[0])

    @property
    def _sizes(self) -> str | None:
        return self.params.sizes if self._css_width is None else None

    @property
    def _shown(self) -> Size:
        """The size by which the page reserves space: in CSS pixels, or only as an aspect ratio."""
        largest = self._fallback
        if self._css_width is None:
            return largest.width, largest.height
        return self._css_width, max(1, round(self.own[1] * self._css_width / self.own[0]))

    @property
    def _style(self) -> str | None:
        """A preview until the image is loaded; not for transparent images, under which it would stay visible."""
        if self.has_alpha:
            return None
        found = self.placeholders
        return f"background: {found.dominant_colour} url({found.lqip}) center / cover no-repeat"

    def _srcset(self, format_: str) -> str:
        return ", ".join(f"{self._url(image)} {self._descriptor(image)}" for image in self._of(format_))

    def _descriptor(self, image: WebImage) -> str:
        if self._css_width is None:
            return f"{image.width}w"
        return f"{round(image.width / self._css_width, 4):g}x"

    def _url(self, image: WebImage) -> str:
        base = self.params.base_url
        return image.file if base is None else f"{base.removesuffix('/')}/{image.file}"

    def _described(self, image: WebImage) -> dict[str, Any]:
        known = {name: value for name, value in asdict(image).items() if value is not None}
        return {"url": self._url(image), **known, "content_type": FORMATS[image.format].media_type}


def _attributes(values: dict[str, str | None]) -> str:
    """Attributes of HTML; those without a value are left out."""
    return "".join(f' {name}="{escape(value)}"' for name, value in values.items() if value is not None)
