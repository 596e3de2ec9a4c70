"""Keys: what they look like, and what the database keeps of them."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from app.database import Database
from app.errors import (
    ExpiredKey,
    InvalidTenantName,
    MalformedKey,
    MistypedKey,
    RevokedKey,
    TenantExists,
    TenantNotFound,
    TooManyKeys,
)
from app.models import ApiKey, Scope
from app.services.access import keys, tenants
from app.tenancy import DEFAULT_TENANT
from tests.support.tenants import new_key

READ = frozenset({Scope.JOBS_READ})


def test_a_key_has_its_id_a_secret_and_a_checksum_and_the_secret_is_kept_nowhere(database: Database) -> None:
    text = new_key(database, DEFAULT_TENANT, READ)
    assert re.fullmatch(r"pxt_[a-z0-9]{12}_[A-Za-z0-9]{49}", text)
    with database.session(read_only=True) as session:
        (key,) = keys.every(session)
        row = {column.key: str(getattr(key, column.key)) for column in ApiKey.__table__.columns}
        secret = text.rpartition("_")[2][:-6]
        assert not [name for name, value in row.items() if secret in value]
        assert len(row["secret_hash"]) == 64
        holder = keys.find(session, keys.parse(text))
        assert holder
        assert holder.check().scopes == READ


@pytest.mark.parametrize("text", ["", "pxt_", "secret", "pxk_aaaaaaaaaaaa_" + "a" * 49, "pxt_aaaaaaaaaaaa_" + "a" * 48])
def test_what_is_no_key_is_told_so(text: str) -> None:
    with pytest.raises(MalformedKey):
        keys.parse(text)


def test_every_mistyped_character_is_noticed(database: Database) -> None:
    text = new_key(database, DEFAULT_TENANT)
    start = text.rindex("_") + 1
    for place in (4, 10, start, start + 20, len(text) - 1):
        other = "b" if text[place] == "a" else "a"
        with pytest.raises(MistypedKey):
            keys.parse(text[:place] + other + text[place + 1 :])


def test_a_wrong_secret_finds_nothing(database: Database) -> None:
    token = keys.parse(new_key(database, DEFAULT_TENANT))
    with database.session(read_only=True) as session:
        assert keys.find(session, keys.Token(id=token.id, secret_hash="0" * 64)) is None
        assert keys.find(session, keys.Token(id="a" * 12, secret_hash=keys.NOBODY)) is None


def test_what_is_expired_revoked_or_of_a_tenant_that_goes_opens_nothing(database: Database) -> None:
    with database.session() as session:
        tenants.create(session, "ann")
    soon = datetime.now(UTC) + timedelta(hours=1)
    valid, revoked, of_ann = (
        new_key(database, DEFAULT_TENANT, READ, expires_at=soon),
        *(new_key(database, tenant) for tenant in (DEFAULT_TENANT, "ann")),
    )
    with database.session() as session:
        keys.revoke(session, revoked.split("_")[1])
        tenants.retire(session, "ann")
    with database.session(read_only=True) as session:
        holder = keys.find(session, keys.parse(valid))
        assert holder
        assert holder.check().tenant == DEFAULT_TENANT
        over = keys.Holder(principal=holder.principal, expires_at=datetime.now(UTC), refused=None)
        with pytest.raises(ExpiredKey):
            over.check()
        for text in (revoked, of_ann):
            found = keys.find(session, keys.parse(text))
            assert found
            with pytest.raises(RevokedKey) as refused:
                found.check()
            assert refused.value.key_id == text.split("_")[1]


def test_a_tenant_has_so_many_keys_that_open_something(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_KEYS", 2)
    first, _ = new_key(database, DEFAULT_TENANT), new_key(database, DEFAULT_TENANT)
    with pytest.raises(TooManyKeys):
        new_key(database, DEFAULT_TENANT)
    with database.session() as session:
        keys.revoke(session, first.split("_")[1])
    new_key(database, DEFAULT_TENANT)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a_b", "a" * 64, "a\n", "ä", "a\0"])
def test_what_is_no_name_of_a_tenant_is_refused(database: Database, name: str) -> None:
    with database.session() as session:
        with pytest.raises(InvalidTenantName):
            tenants.create(session, name)
        with pytest.raises(TenantNotFound):
            tenants.get(session, name)


def test_a_tenant_is_made_once_and_keys_need_one(database: Database) -> None:
    with database.session() as session:
        tenants.create(session, "a" * 63)
        with pytest.raises(TenantExists):
            tenants.create(session, "a" * 63)
        with pytest.raises(TenantNotFound):
            keys.create(session, keys.NewKey(tenant="absent", scopes=READ))
