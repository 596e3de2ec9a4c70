"""XMP as plain JSON values. Layout: ISO 16684-1."""

from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

_W3C = "{http://www.w3.org/"  # namespaces of RDF and XML, whose attributes are syntax
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
MAX_BYTES = 1_000_000
MAX_DEPTH = 20
PREFIXES = {  # well-known namespaces; names in others start with the namespace's URI
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/mm/": "xmpMM",
    "http://ns.adobe.com/xap/1.0/rights/": "xmpRights",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://cipa.jp/exif/1.0/": "exifEX",
    "http://ns.adobe.com/exif/1.0/aux/": "aux",
    "http://ns.adobe.com/camera-raw-settings/1.0/": "crs",
    "http://ns.adobe.com/hdr-gain-map/1.0/": "hdrgm",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://ns.google.com/photos/1.0/camera/": "GCamera",
    "http://ns.google.com/photos/1.0/container/": "Container",
    "http://ns.google.com/photos/1.0/container/item/": "Item",
}


def read_xmp(packet: bytes) -> dict[str, Any]:
    """The properties of a packet by prefixed name: texts, lists and dictionaries; empty if it is broken or too large.

    Of a text in several languages, only the default one is included.
    """
    if not packet or len(packet) > MAX_BYTES:
        return {}
    try:
        root = fromstring(packet.strip(b"\0 \r\n\t"), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return {}
    rdf = root if root.tag == f"{_RDF}RDF" else root.find(f".//{_RDF}RDF")
    properties: dict[str, Any] = {}
    for description in () if rdf is None else rdf.findall(f"{_RDF}Description"):
        properties |= _structure(description, 0)
    return properties


def _structure(element: Element, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {_name(key): text for key, text in element.items() if not key.startswith(_W3C)}
    for child in element:
        value = _value(child, depth + 1)
        if value not in ("", [], {}):
            found[_name(child.tag)] = value
    return found


def _value(element: Element, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return ""
    container = next(iter(element), None)
    if container is None:
        return _structure(element, depth) or (element.text or "").strip()
    if container.tag == f"{_RDF}Alt":
        return _default_language(container, depth)
    if container.tag in {f"{_RDF}Bag", f"{_RDF}Seq"}:
        return [_value(item, depth + 1) for item in container]
    if container.tag == f"{_RDF}Description":
        return _structure(container, depth + 1)
    return _structure(element, depth)


def _default_language(container: Element, depth: int) -> Any:
    items = sorted(container, key=lambda item: item.get(_LANGUAGE) != "x-default")
    return _value(items[0], depth + 1) if items else ""


def _name(tag: str) -> str:
    address, _, name = tag.removeprefix("{").rpartition("}")
    prefix = PREFIXES.get(address)
    return f"{prefix}:{name}" if prefix else f"{address}{name}"
