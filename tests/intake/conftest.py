"""The API in this process over a database of each kind, without workers."""

from tests.access.conftest import ann, bob, service  # noqa: F401 - pytest finds fixtures by their names here
