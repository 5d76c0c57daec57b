"""Outputs appear whole or not at all, and are not removed unasked."""

from __future__ import annotations

import os

import pytest

from mammoscope.artefacts import (
    canonical_json,
    check_output,
    claim_output,
    new_folder,
    read_json,
    sha256_file,
    write_atomically,
    write_json,
)
from mammoscope.errors import OutputError, RunError

ROOT = os.geteuid() == 0


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def stopped():
        with write_atomically(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_disk_names_the_file_and_the_cause(tmp_path):
    with (
        pytest.raises(OutputError, match=r"cannot write .*a\.txt: No space left on device"),
        write_atomically(tmp_path / "a.txt"),
    ):
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_was_raised_anew_says_what_the_system_said(tmp_path):
    """As pydicom does, with a traceback in the text."""

    def fail():
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise OSError(f"With tag got exception: {error}\nTraceback (most recent") from error

    with pytest.raises(OutputError) as caught, write_atomically(tmp_path / "a"):
        fail()
    assert str(caught.value).endswith("No space left on device")


def test_outputs_follow_the_users_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_json_is_strict_both_ways(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"score": float("nan")})
    assert canonical_json({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    (tmp_path / "b.json").write_text("[1]")
    with pytest.raises(RunError, match="holds a JSON list, not an object"):
        read_json(tmp_path / "b.json", RunError)
    with pytest.raises(RunError, match="is missing"):
        read_json(tmp_path / "c.json", RunError)


def test_a_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_an_output_is_claimed_once(tmp_path):
    out = tmp_path / "deep" / "out"
    claim_output(out, overwrite=False)
    (out / "mine.json").write_text("{}")
    with pytest.raises(OutputError, match="exists already"):
        claim_output(out, overwrite=False)
    with pytest.raises(OutputError, match="did not make it"):
        claim_output(out, overwrite=True, marker="run.json")
    assert (out / "mine.json").exists()
    claim_output(out, overwrite=True, marker="mine.json")
    assert list(out.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_before_work(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is not a folder"):
        claim_output(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="cannot write to"):
        claim_output(tmp_path / "file" / "below", overwrite=False)
    with pytest.raises(OutputError, match="cannot write to"):
        check_output(tmp_path / "file" / "below", overwrite=False)


def test_a_new_folder_takes_the_place_of_the_old_one_only_when_it_is_whole(tmp_path):
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "bundle.json").write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        new_folder(out, overwrite=False, marker="bundle.json").__enter__()

    def cut_short():
        with new_folder(out, overwrite=True, marker="bundle.json") as fresh:
            (fresh / "model.onnx").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert (out / "bundle.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]
    with new_folder(out, overwrite=True, marker="bundle.json") as fresh:
        (fresh / "bundle.json").write_text("new")
    assert [path.name for path in out.iterdir()] == ["bundle.json"]
    assert (out / "bundle.json").read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        claim_output(tmp_path / "locked" / "out", overwrite=False)
