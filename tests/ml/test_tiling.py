"""Windows cover an image once, with a real halo wherever the image goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ml.tiling import windows


@given(size=st.integers(1, 3000), halo=st.integers(0, 30), more=st.integers(1, 500))
def test_windows_answer_for_every_pixel_once_and_see_a_halo_around_it(size: int, halo: int, more: int) -> None:
    length = 2 * halo + more
    found = windows(size, length, halo)
    assert [window.valid_begin for window in found] == [0, *(window.valid_end for window in found[:-1])]
    assert found[-1].valid_end == size
    for window in found:
        assert 0 <= window.begin <= window.valid_begin < window.valid_end <= window.end <= size
        assert window.end - window.begin <= length
        assert window.begin == 0 or window.valid_begin - window.begin >= halo
        assert window.end == size or window.end - window.valid_end >= halo
    assert len({window.end - window.begin for window in found}) == 1, "one shape: a runtime plans its memory once"


@given(size=st.integers(1, 3000), halo=st.integers(0, 8), more=st.integers(8, 500), align=st.sampled_from([2, 4, 8]))
def test_aligned_windows_begin_where_places_begin(size: int, halo: int, more: int, align: int) -> None:
    halo *= align
    found = windows(size, 2 * halo + more, halo, align)
    assert [window.valid_begin for window in found] == [0, *(window.valid_end for window in found[:-1])]
    assert found[-1].valid_end == found[-1].end == size
    for window in found:
        assert window.begin % align == 0
        assert window.begin <= window.valid_begin < window.valid_end <= window.end
        assert window.end == size or window.end % align == 0
        assert window.begin == 0 or window.valid_begin - window.begin >= halo
        assert window.end == size or window.end - window.valid_end >= halo
    assert len({window.end - window.begin for window in found[:-1]}) <= 1
    assert all(window.end - window.begin < found[0].end - found[0].begin + align for window in found)


def test_few_windows_and_even_ones() -> None:
    found = windows(1000, 400, 20)
    assert len(found) == 3
    assert found[0].end - found[0].begin == 360


def test_a_window_that_is_all_halo_is_refused() -> None:
    with pytest.raises(ValueError, match="all halo"):
        windows(100, 40, 20)
