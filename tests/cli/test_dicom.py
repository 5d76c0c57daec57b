"""``mammoscope deidentify`` as a stranger types it."""

from __future__ import annotations

import stat

import numpy as np
import pytest

from fixtures.images import breast_pixels
from mammoscope.cli import main


@pytest.fixture
def run(capsys):
    """Run a command in this process: (exit status, standard error)."""

    def call(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as exiting:
            main([str(word) for word in words])
        return int(exiting.value.code or 0), capsys.readouterr().err

    return call


@pytest.fixture
def archive(tmp_path, write_mammogram):
    """A plain mammogram and one with two letters beside the breast."""
    write_mammogram(tmp_path / "src" / "plain.dcm")
    pixels = breast_pixels(seed=1)
    pixels[10:20, 200:206] = pixels[10:20, 212:218] = 3000
    write_mammogram(tmp_path / "src" / "marked.dcm", pixels)
    return tmp_path / "src"


def test_a_first_run_makes_the_key_and_says_what_was_refused(run, archive, tmp_path):
    key, out = tmp_path / "secret.key", tmp_path / "out"
    status, err = run("deidentify", archive, out, "--key", key, "--new-key", "--workers", 1)
    assert status == 0
    assert "1 images of 1 patients" in err
    assert "1 burned_in_text" in err
    assert "out.rejects.csv" in err
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_cleaning_is_asked_for_by_a_word(run, archive, tmp_path):
    words = ("--key", tmp_path / "secret.key", "--new-key", "--workers", 1)
    status, err = run("deidentify", archive, tmp_path / "out", *words, "--burned-in", "clean")
    assert status == 0
    assert "2 images of 1 patients" in err
    assert "1 with pixels cleaned" in err


def test_a_key_that_others_may_read_is_remarked(run, archive, tmp_path):
    key = tmp_path / "secret.key"
    key.write_text("ab" * 32)
    key.chmod(0o644)
    status, err = run("deidentify", archive, tmp_path / "out", "--key", key, "--workers", 1)
    assert status == 0
    assert "chmod 600" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--key", "secret.key"), "--new-key"),
        (("--key", "src/secret.key", "--new-key"), "keep it apart"),
        (("--key", "out/secret.key", "--new-key"), "keep it apart"),
    ],
)
def test_wrong_words_are_a_sentence(run, archive, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, err = run("deidentify", "src", "out", *words)
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    assert not (archive / "secret.key").exists()


def test_no_key_is_made_for_a_source_that_is_none(run, tmp_path):
    key = tmp_path / "secret.key"
    status, err = run("deidentify", tmp_path / "no", tmp_path / "out", "--key", key, "--new-key")
    assert status == 1
    assert "is not a folder" in err
    assert not key.exists()


def test_wrong_usage_exits_2(run, tmp_path):
    words = ("deidentify", tmp_path, tmp_path / "out")
    assert run(*words)[0] == 2
    status, err = run(*words, "--key", tmp_path / "key", "--burned-in", "maybe")
    assert status == 2
    assert "'refuse', 'clean'" in err


def test_the_picture_that_is_cleaned_loses_its_letters(run, archive, tmp_path):
    from mammoscope.preprocessing import read_pixels

    words = (
        "--key",
        tmp_path / "secret.key",
        "--new-key",
        "--burned-in",
        "clean-all",
        "--workers",
        1,
    )
    assert run("deidentify", archive, tmp_path / "out", *words)[0] == 0
    for path in (tmp_path / "out").rglob("*.dcm"):
        assert np.all(read_pixels(path).pixels[:25, 190:] == 0)
