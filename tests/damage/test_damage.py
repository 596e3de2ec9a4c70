"""No damaged file ends as completed, and no sound one as corrupt: a sample of the corpus, and the whole of it."""

import os
import random
from collections.abc import Iterator

import pytest

from app.services.execution.sandbox import Sandbox
from tests.damage.__main__ import MEMORY
from tests.damage.corpus import Damaged, corpus
from tests.damage.originals import FORMATS, originals
from tests.damage.trial import Outcome, outcomes
from tests.support.sampling import WHOLE

SAMPLE, ALL = 6, 200  # files of each format
SOUND = 3  # variants of each format; tests/imaging/test_lenience.py has them all, without the sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(os.cpu_count() or 1, MEMORY) as running:
        yield running


def _tried(format_: str, count: int, sandbox: Sandbox, seed: int = 1) -> list[Outcome]:
    found = list(outcomes(corpus(format_, count, seed), sandbox))
    assert [str(outcome) for outcome in found if outcome.was_delivered_damaged] == []
    assert [str(outcome) for outcome in found if outcome.was_refused_sound] == []
    return found


@pytest.mark.parametrize("format_", FORMATS)
def test_a_sample_of_damaged_files(format_: str, sandbox: Sandbox) -> None:
    found = _tried(format_, SAMPLE, sandbox)
    assert any(outcome.is_damaged for outcome in found)  # there was something to find


@pytest.mark.full
@pytest.mark.parametrize("format_", FORMATS)
def test_the_whole_corpus(format_: str, sandbox: Sandbox) -> None:
    found = _tried(format_, ALL, sandbox)
    assert sum(outcome.is_damaged for outcome in found) > ALL / 2


def test_the_corpus_is_the_same_every_time() -> None:
    for format_ in FORMATS:
        first, second = ([file.content for file in corpus(format_, 5)] for _ in range(2))
        assert first == second
        assert all(file.content != file.original or "changed" in file.damage for file in corpus(format_, 40))
        assert {file.variant for file in corpus(format_, 80)} == set(originals(format_))


@pytest.mark.parametrize("format_", FORMATS)
def test_undamaged_files_are_sound_and_complete(format_: str, sandbox: Sandbox) -> None:
    """So that the trial would see a service, or a judge, that refuses everything."""
    variants = originals(format_)
    for variant in variants if WHOLE else random.Random(format_).sample(sorted(variants), SOUND):
        content = variants[variant]
        for outcome in outcomes([Damaged(format_, variant, "none", content, content)], sandbox):
            assert (outcome.is_sound, outcome.is_damaged, outcome.answer.status) == (True, False, "completed"), outcome
