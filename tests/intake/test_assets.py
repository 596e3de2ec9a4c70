"""Assets: a name for a file, which a job keeps whatever becomes of the name."""

import hashlib
import io
import struct
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image
from sqlalchemy import delete, select, update

from app.database import Database, from_now
from app.errors import PixToolsError
from app.imaging import pipeline
from app.models import Asset, AssetObject, AuditEntry, JobAsset, TenantRecord
from app.services import jobs
from app.services.access import storage as stored
from app.services.intake import assets
from app.services.storage.keys import asset_key, shared_asset_key
from app.services.storage.local import LocalFolder
from app.services.upkeep import erasure
from app.services.upkeep.unused_assets import GRACE_SECONDS, remove_unused_assets
from app.tenancy import DEFAULT_TENANT
from tests.support.deployment import ROOT
from tests.support.executing import executor_with
from tests.support.fonts import font
from tests.support.submitting import accepted, call, submit
from tests.support.tenants import Belongings, Service, furnish
from tests.support.work import change, job_of, messages

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
FONT = (ROOT / "app/imaging/fonts/DejaVuSans.ttf").read_bytes()
MARKED = [{"op": "watermark", "image": "logo.png", "opacity": 1, "scale": 1, "margin": 0, "then": ["convert_png"]}]

LETTERED: list[dict[str, Any]] = [
    {"op": "watermark", "text": "Ha", "font": "own.ttf", "opacity": 1, "scale": 1, "margin": 0, "then": ["convert_png"]}
]


def image(colour: str, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


RED, BLUE = image("#ff0000"), image("#0000ff")


def put(service: Service, content: bytes = RED, name: str = "logo.png", key: str | None = None) -> Any:
    return call(service, "PUT", f"/assets/{name}", key, content=content)


def objects(service: Service) -> set[str]:
    return {key for key, _ in service.resources.storage.entries("assets/")}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def run(service: Service, database: Database, folder: Path, job_id: str) -> tuple[int, ...]:
    """Run a job of one task as a worker does; a pixel of its result."""
    messages(database)
    storage = service.resources.storage
    assert isinstance(storage, LocalFolder)
    executor_with(render, database, storage, folder).run(UUID(job_id), "0.0", "worker")
    [result] = job_of(database, UUID(job_id)).results
    with Image.open(storage.folder / result.key) as opened:
        return opened.convert("RGB").getpixel((4, 4))  # type: ignore[return-value]


def render(source: Any, stages: Any, targets: Any, limits: Any, *, monitor: Any) -> Any:
    return pipeline.render(source, stages, targets, limits, monitor)


# -- names and files ---------------------------------------------------------------------------------------------------


def test_a_name_is_given_to_files_one_after_the_other(service: Service) -> None:
    new = put(service)
    shown = {"name": "logo.png", "kind": "image", "content_type": "image/png", "width": 8, "height": 8}
    shown |= {"bytes": len(RED), "sha256": sha(RED)}
    assert new.status_code == 201
    assert new.json() == {**shown, "updated_at": new.json()["updated_at"]}
    assert call(service, "GET", "/assets/logo.png").json() == new.json()
    assert (put(service).status_code, put(service).json()) == (200, new.json()), "the same again changes nothing"
    replaced = put(service, BLUE)
    assert (replaced.status_code, replaced.json()["sha256"]) == (200, sha(BLUE))
    font = put(service, FONT, "own.ttf").json()
    assert (font["kind"], font["content_type"], font["width"]) == ("font", "font/ttf", None)
    listed = call(service, "GET", "/assets").json()["data"]
    assert [asset["name"] for asset in listed] == ["logo.png", "own.ttf"]
    assert objects(service) == {asset_key(DEFAULT_TENANT, sha(content)) for content in (RED, BLUE, FONT)}
    assert call(service, "DELETE", "/assets/own.ttf").status_code == 204
    for method in ("GET", "DELETE"):
        missing = call(service, method, "/assets/own.ttf")
        assert (missing.status_code, missing.json()["code"]) == (404, "asset_not_found")


def cut_table(font: bytes) -> bytes:
    """A font whose first table would end behind the file."""
    return font[:24] + struct.pack(">I", len(font)) + font[28:]


@ON_SQLITE
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "empty_file"),
        (b"hello world" * 20, 415, "unsupported_asset"),
        (RED[: len(RED) // 2], 422, "truncated_image"),
        (FONT[:1000], 415, "unsupported_asset"),
        (FONT[:12], 415, "unsupported_asset"),
        (cut_table(FONT), 415, "unsupported_asset"),
        (FONT.replace(b"cmap", b"cmop", 1), 415, "unsupported_asset"),
        (FONT.replace(b"glyf", b"glof", 1), 415, "unsupported_asset"),
        (b"x" * 1_000_001, 413, "body_too_large"),
    ],
)
def test_what_is_no_image_and_no_font_is_refused(
    database: Database, database_url: str, tmp_path: Path, content: bytes, status: int, code: str
) -> None:
    service = Service(database_url, tmp_path, max_asset_bytes=1_000_000)
    answer = put(service, content)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert objects(service) == set()


@ON_SQLITE
def test_limits_of_images_hold(database: Database, database_url: str, tmp_path: Path) -> None:
    service = Service(database_url, tmp_path, max_side=100)
    answer = put(service, image("red", 101)).json()
    assert (answer["code"], answer["limit"], answer["errors"][0]["pointer"]) == ("limit_exceeded", 100, "#")
    assert call(service, "PUT", "/assets/.hidden", content=RED).json()["errors"][0]["pointer"] == "#/path/name"


@ON_SQLITE
def test_there_may_be_only_so_many(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "MAX_ASSETS", 1)
    put(service)
    assert put(service, BLUE, "other.png").json()["code"] == "too_many_assets"
    assert put(service, BLUE).status_code == 200, "replacing one makes no more"


def test_what_is_stored_counts(service: Service, database: Database, ann: Belongings) -> None:
    put(service, key=ann.key)
    put(service, name="same.png", key=ann.key)
    for _ in range(2):
        with database.session(read_only=True) as session:
            tenant = session.get_one(TenantRecord, "ann")
        results = 100 * len("ann") + 10 * len("ann")  # and the asset that there is
        of_jobs = sum(job_of(database, job).input_bytes or 0 for job in (ann.job, ann.open_job)) + results
        measured = tenant.stored_bytes
        stored.measure(database)
    assert measured == len(RED) + of_jobs, "one file, whatever its names are"
    change(database, update(TenantRecord).where(TenantRecord.name == "ann").values(max_storage_bytes=measured))
    refused = put(service, BLUE, "other.png", ann.key)
    assert (refused.status_code, refused.json()["code"]) == (403, "storage_limit_reached")


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_a_job_goes_on_with_the_file_that_it_was_accepted_with(
    service: Service, database: Database, tmp_path: Path
) -> None:
    put(service)
    first = accepted(service, operations=MARKED)["id"]
    put(service, BLUE)
    second = accepted(service, operations=MARKED)["id"]
    assert run(service, database, tmp_path, first) == (255, 0, 0)
    assert run(service, database, tmp_path, second) == (0, 0, 255)
    with database.session() as session:
        jobs.cancel(session, UUID(third := accepted(service, operations=MARKED)["id"]))
    put(service, RED)
    assert call(service, "POST", f"/jobs/{third}/retry").status_code == 202
    assert run(service, database, tmp_path, third) == (0, 0, 255), "a repeat as well"


def test_an_asset_that_is_in_use_is_not_taken_away(service: Service, database: Database, tmp_path: Path) -> None:
    put(service)
    job = accepted(service, operations=MARKED)["id"]
    refused = call(service, "DELETE", "/assets/logo.png")
    assert (refused.status_code, refused.json()["code"], refused.json()["job_id"]) == (409, "asset_in_use", job)
    run(service, database, tmp_path, job)
    assert call(service, "DELETE", "/assets/logo.png").status_code == 204
    assert submit(service, operations=MARKED).json()["code"] == "unknown_asset"


@ON_SQLITE
def test_a_tree_needs_the_right_kind(service: Service) -> None:
    put(service, FONT)
    error = submit(service, operations=MARKED).json()["errors"][0]
    assert (error["code"], error["pointer"]) == ("unknown_asset", "#/operations/0/image")
    assert error["detail"] == "watermark: `image` needs a stored image; 'logo.png' is of kind font."
    put(service, RED, "own.ttf")
    error = submit(service, operations=LETTERED).json()["errors"][0]
    assert (error["code"], error["pointer"]) == ("unknown_asset", "#/operations/0/font")
    assert error["detail"] == "watermark: `font` needs a stored font; 'own.ttf' is of kind image."
    assert call(service, "DELETE", "/assets/own.ttf").status_code == 204
    error = submit(service, operations=LETTERED).json()["errors"][0]
    assert (error["pointer"], error["detail"]) == ("#/operations/0/font", "watermark: there is no asset 'own.ttf'.")


@ON_SQLITE
def test_a_template_may_leave_the_font_to_its_callers(service: Service) -> None:
    put(service, FONT, "own.ttf")
    place = {"operations": [{**LETTERED[0], "font": {"param": "font"}}]}
    body = {**place, "params": {"properties": {"font": {"type": "string"}}}}
    assert call(service, "PUT", "/templates/lettered", json=body).status_code == 201

    def asked(**params: str) -> Any:
        return submit(service, operations=None, template="lettered", params=params).json()

    assert asked(font="own.ttf")["operations"][0]["font"] == "own.ttf"
    assert "font" not in asked()["operations"][0], "the bundled one"
    assert asked(font="other.ttf")["code"] == "unknown_asset"


def test_a_font_goes_with_its_job_as_an_image_does(service: Service, database: Database, tmp_path: Path) -> None:
    put(service, font("Ha"), "own.ttf")
    first = accepted(service, operations=LETTERED)["id"]
    put(service, font("Ha", block=(0, 0, 0, 0)), "own.ttf")
    refused = call(service, "DELETE", "/assets/own.ttf")
    assert refused.status_code == 204, "the name means another file by now"
    assert run(service, database, tmp_path, first) == (255, 255, 255)
    put(service, font("Ha"), "own.ttf")
    second = accepted(service, operations=LETTERED)["id"]
    refused = call(service, "DELETE", "/assets/own.ttf")
    assert (refused.status_code, refused.json()["code"], refused.json()["job_id"]) == (409, "asset_in_use", second)


def test_a_file_goes_when_no_name_and_no_job_needs_it(service: Service, database: Database, tmp_path: Path) -> None:
    def collect(*, later: bool) -> int:
        if later:
            change(database, update(AssetObject).values(touched_at=from_now(-GRACE_SECONDS - 1)))
        with database.session() as session:
            return remove_unused_assets(session, service.resources.storage)

    put(service)
    job = accepted(service, operations=MARKED)["id"]
    run(service, database, tmp_path, job)
    put(service, BLUE)
    assert collect(later=True) == 0, "a job could still be repeated"
    call(service, "DELETE", f"/jobs/{job}")
    put(service, image("#00ff00"))
    assert collect(later=False) == 1, "blue has just lost its name, and somebody may have read that"
    assert collect(later=True) == 1
    assert objects(service) == {asset_key(DEFAULT_TENANT, sha(image("#00ff00")))}
    assert put(service, RED).status_code == 200
    assert accepted(service, operations=MARKED)


def test_what_an_earlier_version_has_stored_belongs_to_the_first_tenant(
    service: Service, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "old.png").write_bytes(RED)
    storage = service.resources.storage
    storage.upload_processed(shared_asset_key("logo.png"), tmp_path / "old.png", content_type="image/png")
    job = accepted(service, operations=MARKED)["id"]
    with database.session(tenant=DEFAULT_TENANT) as session:
        assert session.scalars(select(Asset.sha256)).all() == [sha(RED)]
        session.execute(delete(JobAsset))  # as if that version had accepted it
    assert run(service, database, tmp_path, job) == (255, 0, 0)
    ann = furnish(service.resources, "ann")
    assert submit(service, ann.key, operations=MARKED).json()["code"] == "unknown_asset"


# -- tenants -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_assets_belong_to_their_tenants(service: Service, database: Database, ann: Belongings, bob: Belongings) -> None:
    put(service, key=ann.key)
    assert call(service, "GET", "/assets/logo.png", bob.key).status_code == 404
    assert [asset["name"] for asset in call(service, "GET", "/assets", bob.key).json()["data"]] == [bob.name]
    assert submit(service, bob.key, operations=MARKED).json()["code"] == "unknown_asset"
    put(service, BLUE, key=bob.key)
    accepted(service, bob.key, operations=MARKED)
    assert call(service, "DELETE", "/assets/logo.png", ann.key).status_code == 204
    with database.session(read_only=True) as session:
        shown = session.execute(select(AuditEntry.action, AuditEntry.subject).where(AuditEntry.tenant == "ann")).all()
    assert {tuple(entry) for entry in shown} >= {("asset.stored", "logo.png"), ("asset.deleted", "logo.png")}
    erased = erasure.erase(database, service.resources.storage, "bob")
    assert erased["assets"] == 2
    assert objects(service) == {asset_key("ann", sha(content)) for content in (RED, b"ann" * 10)}
    with pytest.raises(PixToolsError), database.session(tenant="bob") as session:
        assets.get(session, "logo.png")
