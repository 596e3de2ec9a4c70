"""Templates that come with PixTools, available to all tenants."""

from typing import Any

SIDE: dict[str, Any] = {"type": "integer", "minimum": 16, "maximum": 2048}
WIDTH: dict[str, Any] = {"type": "integer", "minimum": 16, "maximum": 4096}
FORMAT: dict[str, Any] = {"type": "string", "enum": ["convert_webp", "convert_jpeg", "convert_png", "convert_avif"]}


def _thumbnail(name: str) -> dict[str, Any]:
    return {"op": "resize", "width": {"param": name}, "then": [{"op": {"param": "format"}, "as": name}]}


#: operations and parameters, by name; each has one version
BUILT_IN: dict[str, tuple[list[Any], dict[str, Any]]] = {
    # a square around the most striking part
    "avatar": (
        [
            {
                "op": "resize",
                "width": {"param": "size"},
                "height": {"param": "size"},
                "fit": "cover",
                "gravity": "attention",
                "enlarge": True,
                "then": [{"op": {"param": "format"}, "as": "avatar"}],
            }
        ],
        {
            "type": "object",
            "properties": {
                "size": {**SIDE, "default": 256},
                "format": {**FORMAT, "default": "convert_webp"},
            },
        },
    ),
    # everything that a web page needs of one picture
    "web": (
        [
            {
                "op": "web",
                "widths": [{"param": "small"}, {"param": "medium"}, {"param": "large"}],
                "quality": {"param": "quality"},
                "alt": {"param": "alt"},
                "sizes": {"param": "sizes"},
                "base_url": {"param": "base_url"},
                "as": {"param": "name"},
            }
        ],
        {
            "type": "object",
            "properties": {
                "small": {**WIDTH, "default": 480},
                "medium": {**WIDTH, "default": 960},
                "large": {**WIDTH, "default": 1920},
                "quality": {"type": "integer", "minimum": 1, "maximum": 100},
                "alt": {"type": "string", "maxLength": 1000, "default": ""},
                "sizes": {"type": "string", "maxLength": 500, "default": "100vw"},
                "base_url": {"type": "string", "maxLength": 1000},
                "name": {"type": "string", "maxLength": 64, "default": "web"},
            },
        },
    ),
    # three widths of the whole picture, never larger than it is
    "thumbnails": (
        [_thumbnail("small"), _thumbnail("medium"), _thumbnail("large")],
        {
            "type": "object",
            "properties": {
                "small": {**SIDE, "default": 160},
                "medium": {**SIDE, "default": 480},
                "large": {**SIDE, "default": 1200},
                "format": {**FORMAT, "default": "convert_webp"},
            },
        },
    ),
}
