"""Bytes to text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nb_oomhelper.units import format_bytes, parse_bytes

pytestmark = pytest.mark.plain

GIB = 1 << 30


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unknown"),
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.00 KiB"),
        (3 << 19, "1.50 MiB"),
        (GIB, "1.00 GiB"),
        (10 * GIB, "10.0 GiB"),
        (100 * GIB, "100 GiB"),
        (2048 * GIB, "2.00 TiB"),
        (3 << 50, "3.00 PiB"),
        (3_199_999_992_135_680, "2.84 PiB"),  # what NumPy says of it
        (1000 << 20, "0.977 GiB"),
        (999 << 20, "999 MiB"),
        ((999 << 20) + (3 << 18), "0.976 GiB"),  # not "1000 MiB"
        ((10 << 20) - 1024, "10.0 MiB"),
        ((100 << 20) - 1024, "100 MiB"),
        ((1 << 30) - 1024, "1.00 GiB"),
        (-GIB, "-1.00 GiB"),
    ],
)
def test_sizes_are_written_in_three_digits(size: int | None, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2.00 GiB", 2 * GIB),
        ("51. GiB", 51 * GIB),
        ("4.5GiB", 9 * GIB // 2),
        ("7 GB", 7 * GIB),
        ("12.5 KB", 12800),
        ("1,048,576 bytes", 1 << 20),
        ("640", 640),
        ("1 byte", 1),
        ("17179869184.00 GiB", None),
        ("-1 GiB", None),
        ("GiB", None),
        ("1 parsec", None),
        ("1.2.3 GiB", None),
        ("", None),
    ],
)
def test_sizes_are_read_as_frameworks_print_them(text: str, size: int | None) -> None:
    assert parse_bytes(text) == size


@given(st.integers(min_value=0, max_value=(1 << 60) - (1 << 50)))
def test_a_written_size_reads_back_as_nearly_the_same(size: int) -> None:
    read = parse_bytes(format_bytes(size))
    assert read is not None
    assert abs(read - size) <= max(size, 1) * 0.005
    assert size >= 1024 or read == size


@given(st.integers(min_value=1 << 60))
def test_an_exbibyte_is_nobodys_memory(size: int) -> None:
    assert parse_bytes(format_bytes(size)) is None


@given(st.one_of(st.text(), st.from_regex(r"[\d., ]{0,80}[A-Za-z]{0,6}", fullmatch=True)))
def test_any_text_is_a_size_below_an_exbibyte_or_none(text: str) -> None:
    size = parse_bytes(text)
    assert size is None or 0 <= size < 1 << 60
