"""Templates that come with PixTools, for every tenant."""

from typing import Any

SIDE: dict[str, Any] = {"type": "integer", "minimum": 16, "maximum": 2048}
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
