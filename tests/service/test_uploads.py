"""What an upload may not be: too large, too many, malformed, malicious, or nothing at all."""

from __future__ import annotations

import io
import socket
import stat
import struct
import time
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest

BOUNDARY = "b0undary"


def refusal(answer) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error"}
    assert body["error"]["message"]
    return answer.status_code, body["error"]["code"]


def chunked(total: int) -> Iterator[bytes]:
    """A multipart body of one endless file, sent in chunks and without its length."""
    yield (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n'
    ).encode()
    for _ in range(total // 65536):
        yield b"\0" * 65536
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


def post(client, content, content_type=f"multipart/form-data; boundary={BOUNDARY}"):
    return client.post("/v1/exams", content=content, headers={"Content-Type": content_type})


@pytest.fixture(scope="module")
def small(serving):
    """A service that accepts little."""
    with serving(
        max_upload_bytes=2_000_000, max_files=6, max_unzipped_bytes=3_000_000, idle_timeout_s=1
    ) as client:
        yield client


def test_a_body_without_its_length_is_cut_off_at_the_limit(small):
    answer = post(small, chunked(8_000_000))
    assert refusal(answer) == (413, "upload_too_large")
    assert "2000000" in answer.json()["error"]["message"]


def test_a_declared_length_over_the_limit_is_refused_before_the_body(small):
    host, port = small.base_url.host, small.base_url.port
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(
            f"POST /v1/exams HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3000000\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_an_upload_that_stops_arriving_is_dropped(small):
    host, port = small.base_url.host, small.base_url.port
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(
            f"POST /v1/exams HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n--{BOUNDARY}".encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_sender_who_hangs_up_leaves_nothing_behind(serving, tmp_path):
    with serving(data_dir=tmp_path, max_exams_in_flight=1) as client:
        host, port = client.base_url.host, client.base_url.port
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(
                f"POST /v1/exams HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n"
                f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode()
            )
            deadline = time.monotonic() + 5
            while not list(tmp_path.glob(".mammoscope-incoming/*")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert refusal(post(client, b"")) == (503, "busy")
        while list(tmp_path.glob(".mammoscope-incoming/*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert 'status="499"' in client.get("/metrics").text


def test_more_files_than_accepted_are_refused(small):
    files = [("files", (f"{n}.dcm", b"x")) for n in range(7)]
    assert refusal(small.post("/v1/exams", files=files)) == (413, "too_many_files")


def test_an_upload_without_files_is_refused(service):
    empty = f"--{BOUNDARY}--\r\n".encode()
    assert refusal(post(service, empty)) == (422, "no_files")
    blank = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n'
        f"\r\n--{BOUNDARY}--\r\n"
    ).encode()
    assert refusal(post(service, blank)) == (422, "no_files")


@pytest.mark.parametrize(
    ("content", "content_type", "expected"),
    [
        (b"{}", "application/json", (415, "not_multipart")),
        (b"x", "multipart/form-data", (400, "bad_multipart")),
        (b"no boundary here", f"multipart/form-data; boundary={BOUNDARY}", (400, "bad_multipart")),
        (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx',
            f"multipart/form-data; boundary={BOUNDARY}",
            (400, "bad_multipart"),
        ),
        (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"\r\n\r\nx'
            f"\r\n--{BOUNDARY}--\r\n",
            f"multipart/form-data; boundary={BOUNDARY}",
            (422, "unknown_field"),
        ),
        (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="dicom"; filename="a"\r\n\r\nx'
            f"\r\n--{BOUNDARY}--\r\n",
            f"multipart/form-data; boundary={BOUNDARY}",
            (422, "unknown_field"),
        ),
    ],
    ids=["json", "no boundary", "not multipart", "cut short", "no file", "other field"],
)
def test_a_body_that_is_no_form_of_files_is_refused(service, content, content_type, expected):
    assert refusal(post(service, content, content_type)) == expected


def test_garbage_is_refused_and_says_why_of_each_file(service):
    files = {"a.dcm": b"hello", "b.dcm": b"", "c.dcm": b"\0" * 128 + b"DICM" + b"\xff" * 40}
    answer = service.post("/v1/exams", files=[("files", item) for item in files.items()])
    assert refusal(answer) == (422, "nothing_scored")
    error = answer.json()["error"]
    reasons = {item["image_id"]: item["reason"] for item in error["files"]}
    assert reasons["a.dcm"] == "not_an_image"
    assert reasons["b.dcm"] == "empty_file"
    assert set(reasons) == set(files)
    assert all(item["message"] for item in error["files"])
    assert "score" not in error


def test_images_that_cannot_be_scored_are_refused_with_their_reason(
    service, write_mammogram, as_form, tmp_path
):
    blank = write_mammogram(tmp_path / "blank.dcm", np.zeros((128, 128), np.uint16))
    answer = service.post("/v1/exams", files=as_form([blank]))
    assert refusal(answer) == (422, "nothing_scored")
    (only,) = answer.json()["error"]["files"]
    assert only["reason"] == "blank_image"


def test_several_patients_are_refused_without_naming_them(
    service, write_mammogram, as_form, tmp_path
):
    files = [write_mammogram(tmp_path / f"{n}.dcm", patient=f"NAME{n}", seed=n) for n in (1, 2)]
    answer = service.post("/v1/exams", files=as_form(files))
    assert refusal(answer) == (422, "several_patients")
    assert "NAME" not in answer.text


@pytest.mark.parametrize(
    ("table", "expected"),
    [(b"image_id,side\n1,L\n", "lacks the columns"), (b"\xff\xfe\0", "cannot be read as CSV")],
)
def test_a_table_that_is_none_is_refused_without_naming_our_folders(
    service, exam_folder, as_form, table, expected
):
    files = [*as_form([exam_folder / "R_CC.dcm"]), ("files", ("words.csv", table))]
    answer = service.post("/v1/exams", files=files)
    assert refusal(answer) == (422, "bad_table")
    assert expected in answer.json()["error"]["message"]
    assert "/" not in answer.json()["error"]["message"]


def test_two_tables_are_refused(service):
    files = [("files", ("a.csv", b"x")), ("files", ("b.csv", b"x"))]
    assert refusal(service.post("/v1/exams", files=files)) == (422, "several_tables")


def test_a_table_larger_than_a_table_is_refused(serving):
    with serving(max_table_bytes=10) as client:
        answer = client.post("/v1/exams", files=[("files", ("a.csv", b"x" * 11))])
    assert refusal(answer) == (413, "table_too_large")


def test_file_names_that_point_elsewhere_stay_inside(service, exam_folder, tmp_path):
    content = (exam_folder / "R_CC.dcm").read_bytes()
    for name in ("../../evil.dcm", "..\\evil.dcm", "/etc/evil.dcm", ".evil.dcm", "x" * 300):
        answer = service.post("/v1/exams", files=[("files", (name, content))])
        (image,) = answer.json()["exams"][0]["images"]
        assert "/" not in image["image_id"]
        assert not image["image_id"].startswith(".")
        assert len(image["image_id"]) <= 100


@pytest.mark.parametrize(
    "name", ["../evil.dcm", "a/../../evil.dcm", "/etc/evil.dcm", "..\\evil.dcm", "C:\\evil.dcm"]
)
def test_a_zip_that_names_a_place_outside_itself_is_refused(
    service, make_zip, as_form, tmp_path, name
):
    archive = make_zip(tmp_path / "evil.zip", {name: b"x"})
    assert refusal(service.post("/v1/exams", files=as_form([archive]))) == (422, "unsafe_zip")


def test_a_zip_with_a_link_is_refused(service, make_zip, as_form, tmp_path):
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("passwd.dcm")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    assert refusal(service.post("/v1/exams", files=as_form([path]))) == (422, "unsafe_zip")


def test_a_zip_bomb_is_stopped_while_it_unpacks(small, make_zip, as_form, tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", {"a.dcm": b"\0" * 20_000_000})
    assert bomb.stat().st_size < 100_000
    answer = small.post("/v1/exams", files=as_form([bomb]))
    assert refusal(answer) == (413, "zip_too_large")


def test_a_zip_bomb_that_lies_of_its_size_is_stopped_too(small, make_zip, as_form, tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", {f"{n}.dcm": b"\0" * 2_000_000 for n in range(4)})
    data = bytearray(bomb.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + at : start + at + 4] = struct.pack("<I", 10)
    bomb.write_bytes(data)
    assert refusal(small.post("/v1/exams", files=as_form([bomb])))[0] in (413, 422)


def test_a_zip_of_too_many_files_is_refused(small, make_zip, as_form, tmp_path):
    crowd = make_zip(tmp_path / "crowd.zip", {f"{n}.dcm": b"x" for n in range(7)})
    assert refusal(small.post("/v1/exams", files=as_form([crowd]))) == (413, "too_many_files")


def test_a_forged_directory_does_not_fill_the_memory(service, as_form, tmp_path):
    path = tmp_path / "forged.zip"
    directory = b"\0" * 5_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, len(directory), 4, 0)
    path.write_bytes(b"PK\x03\x04" + directory + end)
    answer = service.post("/v1/exams", files=as_form([path]))
    assert refusal(answer) == (422, "bad_zip")
    assert "larger than an exam needs" in answer.json()["error"]["message"]


def test_zips_that_are_encrypted_nested_damaged_or_oddly_packed_are_refused(
    service, make_zip, as_form, tmp_path
):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.dcm", b"x")
    nested = make_zip(tmp_path / "nested.zip", {"inner.dcm": inner.getvalue()})
    packed = make_zip(tmp_path / "packed.zip", {"a.dcm": b"x" * 99}, zipfile.ZIP_BZIP2)
    sound = make_zip(tmp_path / "sound.zip", {"a.dcm": b"x" * 99}, zipfile.ZIP_STORED).read_bytes()
    encrypted = tmp_path / "encrypted.zip"
    encrypted.write_bytes(
        sound.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01").replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
        )
    )
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(sound.replace(b"xxxx", b"xyxx"))
    cut = tmp_path / "cut.zip"
    cut.write_bytes(sound[:60])
    for path, code in [
        (nested, "nested_zip"),
        (packed, "bad_zip"),
        (encrypted, "encrypted_zip"),
        (damaged, "bad_zip"),
        (cut, "bad_zip"),
    ]:
        answer = service.post("/v1/exams", files=as_form([path]))
        assert refusal(answer) == (422, code), path.name
        assert path.name in answer.json()["error"]["message"]


def test_a_zip_without_images_is_refused(service, make_zip, as_form, tmp_path):
    for members in ({}, {"readme.txt": b"x", ".DS_Store": b"x"}):
        archive = make_zip(tmp_path / "empty.zip", members)
        assert refusal(service.post("/v1/exams", files=as_form([archive]))) == (422, "no_files")


def test_memory_stays_flat_while_a_large_upload_is_received(serving):
    import psutil

    process = psutil.Process()
    peak = 0

    def body() -> Iterator[bytes]:
        nonlocal peak
        for number, chunk in enumerate(chunked(192_000_000)):
            if number % 200 == 0:
                peak = max(peak, process.memory_info().rss)
            yield chunk

    with serving() as client:
        before = process.memory_info().rss
        answer = post(client, body())
    assert refusal(answer) == (422, "nothing_scored")
    assert peak - before < 60_000_000
