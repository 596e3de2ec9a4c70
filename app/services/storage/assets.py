"""Files that the operator stores for operations to name, e.g. watermarks."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidUpload
from app.formats import FORMATS
from app.imaging.probe import probe
from app.parameters import AssetName
from app.services.storage.keys import asset_key
from app.services.storage.object_store import ObjectStore

_name: TypeAdapter[str] = TypeAdapter(AssetName)


def put(storage: ObjectStore, file: Path, name: str) -> str:
    """Store an image under a name, and return the name.

    Raises:
        InvalidUpload: it is no image, or no name.
        StoreUnavailable: the storage does not answer.
    """
    try:
        _name.validate_python(name)
    except ValidationError:
        rule = "1 to 100 letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
        raise InvalidUpload(f"{name!r} is no name for a stored file: {rule}.") from None
    with file.open("rb") as content:
        header = probe(content)
    storage.upload_processed(asset_key(name), file, content_type=FORMATS[header.format].media_type)
    return name
