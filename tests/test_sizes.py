"""Sizes of disks: what people write, what is refused, what is shown."""

import pytest

from lifecycle import InvalidSize
from lifecycle.sizes import MAX_SIZE, SECTOR, format_size, parse_size, round_up


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (512, 512),
        ("512", 512),
        ("512B", 512),
        ("1K", 1024),
        ("512M", 512 << 20),
        ("10G", 10 << 30),
        ("10g", 10 << 30),
        ("10GB", 10 << 30),
        ("10GiB", 10 << 30),
        ("10gib", 10 << 30),
        (" 10G\n", 10 << 30),
        ("010G", 10 << 30),
        ("2T", 2 << 40),
        ("3P", 3 << 50),
        ("7E", 7 << 60),
        (MAX_SIZE, MAX_SIZE),
        (str(MAX_SIZE), MAX_SIZE),
    ],
)
def test_a_size_is_read(written: int | str, size: int) -> None:
    assert parse_size(written) == size


FORM = "write a number of bytes, or one with a unit"
SECTORS = "it is not a whole number of sectors"
SMALL = "at least one sector"
LARGE = "more than a file can hold"
TYPE = "neither a whole number of bytes nor a text"


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("", FORM),
        ("G", FORM),
        ("ten", FORM),
        ("10 G", FORM),
        ("1.5G", FORM),
        ("1,5G", FORM),
        ("-1G", FORM),
        ("+1G", FORM),
        ("10X", FORM),
        ("10GG", FORM),
        ("0x200", FORM),
        ("1e9", FORM),
        ("1_024", FORM),
        ("\u0661G", FORM),  # an Arabic one
        ("1\u212a", FORM),  # the Kelvin sign, which is a K to some
        ("10G\0", FORM),
        ("9" * 21, FORM),
        ("9" * 5000, FORM),
        ("0", SMALL),
        (0, SMALL),
        (-512, SMALL),
        ("1", SECTORS),
        (511, SECTORS),
        (513, SECTORS),
        ("8E", LARGE),
        (str(512 * 10**17), LARGE),
        (MAX_SIZE + SECTOR, LARGE),
        (None, TYPE),
        (True, TYPE),
        (1024.0, TYPE),
        (b"10G", TYPE),
        (["10G"], TYPE),
    ],
)
def test_what_is_no_size_is_refused_with_the_reason(written: object, complaint: str) -> None:
    with pytest.raises(InvalidSize) as caught:
        parse_size(written)
    assert complaint in caught.value.reason
    assert caught.value.size == written
    assert len(str(caught.value)) < 200


def test_a_number_too_long_to_be_written_out_is_refused_too() -> None:
    with pytest.raises(InvalidSize) as caught:
        parse_size(1 << 20_000)  # Python writes out no more than 4300 digits
    assert LARGE in caught.value.reason


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536 << 10, "1.5 MiB"),
        (10 << 30, "10 GiB"),
        (1000 << 30, "1000 GiB"),
        (1 << 40, "1 TiB"),
        (5 << 50, "5 PiB"),
        (MAX_SIZE, "8 EiB"),
    ],
)
def test_a_size_is_shown(size: int, shown: str) -> None:
    assert format_size(size) == shown


@pytest.mark.parametrize(("size", "rounded"), [(0, 0), (1, 512), (512, 512), (513, 1024)])
def test_sizes_are_rounded_up_to_whole_sectors(size: int, rounded: int) -> None:
    assert round_up(size) == rounded
