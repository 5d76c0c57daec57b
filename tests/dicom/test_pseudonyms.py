"""New identities and moved dates: from the key alone, and readable by nobody without it."""

from __future__ import annotations

import os
import re
import stat
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from mammoscope.dicom.pseudonyms import PseudonymKey
from mammoscope.dicom.temporal import shift
from mammoscope.errors import ConfigError, OutputError

KEY = PseudonymKey(bytes(range(32)))


def test_a_new_key_is_private_and_read_back(tmp_path):
    before = os.umask(0)
    try:
        made = PseudonymKey.create(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert PseudonymKey.read(tmp_path / "key").uid("1.2") == made.uid("1.2")
    assert PseudonymKey.create(tmp_path / "other").uid("1.2") != made.uid("1.2")


def test_a_key_is_never_replaced(tmp_path):
    PseudonymKey.create(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(OutputError, match="never replaces"):
        PseudonymKey.create(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"), [(b"secret", "hexadecimal"), (b"00ff", "2 bytes"), (b"\xff", "hex")]
)
def test_a_weak_or_foreign_key_file_is_refused(tmp_path, content, message):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        PseudonymKey.read(tmp_path / "key")


def test_a_missing_key_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="--new-key"):
        PseudonymKey.read(tmp_path / "key")


def test_the_key_is_in_neither_its_name_nor_its_fingerprint():
    assert bytes(range(32)).hex() not in repr(KEY)
    assert re.fullmatch(r"[0-9a-f]{8}", KEY.fingerprint)


# Computed once with OpenSSL: printf 'mammoscope patient\0p1' | openssl dgst -sha256 -mac HMAC ...
def test_identities_of_earlier_releases_stay():
    assert KEY.patient_id("p1") == "PJAC52FNWB7SMFXOG"
    assert KEY.uid("1.2.3") == "2.25.263211414530844126121584019234644135931"
    assert KEY.day_shift("p1") == -2137


@given(st.text(min_size=1))
def test_new_identities_are_valid_and_do_not_meet(text):
    uid, patient = KEY.uid(text), KEY.patient_id(text)
    assert UID(uid).is_valid
    assert re.fullmatch(r"P[A-Z2-7]{16}", patient)
    assert uid != KEY.uid(text + "x")
    assert patient != KEY.patient_id(text + "x")
    assert -3652 <= KEY.day_shift(text) <= -31


@given(st.dates(date(1910, 1, 1), date(2100, 1, 1)), st.dates(date(1910, 1, 1), date(2100, 1, 1)),
       st.integers(-3652, -31))  # fmt: skip
def test_intervals_stay(first, second, days):
    moved = [shift("DA", f"{day:%Y%m%d}", days) for day in (first, second)]
    read = [date(int(text[:4]), int(text[4:6]), int(text[6:])) for text in moved]
    assert read[1] - read[0] == second - first
    assert read[0] - first == timedelta(days=days)


@pytest.mark.parametrize(
    ("vr", "value", "moved"),
    [
        ("DA", "20200301", "20200229"),
        ("DA", "2020.03.01", "20200229"),
        ("DA", "20200230", None),
        ("DA", "2020030", None),
        ("DA", "00010101", None),
        ("DA", "Smith", None),
        ("DA", "", None),
        ("DT", "20200301", "20200229"),
        ("DT", "20200301101112.123456-0500", "20200229101112.123456"),
        ("DT", "2020", "2019"),
        ("DT", "202003", "202002"),
        ("DT", "20200301 Smith", None),
        ("TM", "101112.5", "101112.5"),
        ("TM", "10:11:12", "10:11:12"),
        ("TM", "10", "10"),
        ("TM", "Smith", None),
    ],
)
def test_dates_and_times_move_by_whole_days(vr, value, moved):
    assert shift(vr, value, -1) == moved
