"""Health, metrics, errors, headers, and a server that comes and goes."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from mammoscope.errors import BundleError, ServiceError
from mammoscope.service import ServiceSettings, serve
from mammoscope.service.schemas import describe_model


class Watched:
    """A predictor that waits or fails on demand, and is otherwise the real one."""

    def __init__(self, predictor):
        self._predictor = predictor
        self.bundle, self.model_info = predictor.bundle, predictor.model_info
        self.read = predictor.read
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.at_once, self.most_at_once = 0, 0
        self.error = None

    def __call__(self, exam, on_image=None):
        if self.error is not None:
            raise self.error
        if exam.exam_id == "health-check":
            return self._predictor(exam, on_image)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.set()
        try:
            assert self.go_on.wait(20)
            return self._predictor(exam, on_image)
        finally:
            self.at_once -= 1


def counted(client, line: str) -> float:
    (value,) = re.findall(rf"^{re.escape(line)} (\S+)$", client.get("/metrics").text, re.M)
    return float(value)


def test_health_answers_while_an_exam_is_scored_and_exams_wait_their_turn(
    serving, predictor, exam_folder, as_form
):
    watched = Watched(predictor)
    form = as_form([exam_folder / "R_CC.dcm"])
    answers = []
    with serving(watched, health_interval_s=0.001) as client:
        senders = [
            threading.Thread(target=lambda: answers.append(client.post("/v1/exams", files=form)))
            for _ in range(2)
        ]
        for sender in senders:
            sender.start()
        assert watched.begun.wait(10)
        begun = time.monotonic()
        health = client.get("/healthz")
        assert health.status_code == 200
        assert time.monotonic() - begun < 5
        assert answers == []
        watched.go_on.set()
        for sender in senders:
            sender.join(20)
    assert [answer.status_code for answer in answers] == [201, 201]
    assert watched.most_at_once == 1


def test_health_names_the_bundle_and_is_proven_by_a_scored_image(service, predictor):
    health = service.get("/healthz").json()
    assert health["ok"] is True
    assert health["model"] == "bright-cells"
    assert health["bundle_sha256"] == predictor.bundle.sha256
    assert "scored" in health["message"]


def test_health_is_503_when_the_model_fails_and_recovers_with_it(serving, predictor):
    watched = Watched(predictor)
    with serving(watched, health_interval_s=0.001) as client:
        watched.error = BundleError("the model failed")
        sick = client.get("/healthz")
        assert (sick.status_code, sick.json()["ok"]) == (503, False)
        assert counted(client, "mammoscope_healthy") == 0
        watched.error = None
        assert client.get("/healthz").status_code == 200
        assert counted(client, "mammoscope_healthy") == 1


def test_metrics_count_exams_images_refusals_and_requests(serving, exam_folder, as_form, predictor):
    good = as_form([exam_folder / "R_CC.dcm", exam_folder / "L_CC.dcm"])
    junk = ("files", ("x.dcm", b"junk"))
    with serving() as client:
        client.post("/v1/exams", files=[*good, junk])
        client.post("/v1/exams", files=[junk])
        client.get("/nowhere/1")
        client.get("/nowhere/2")
        assert counted(client, 'mammoscope_exams_total{outcome="scored"}') == 1
        assert counted(client, 'mammoscope_exams_total{outcome="refused"}') == 1
        assert counted(client, "mammoscope_images_scored_total") == 2
        assert counted(client, 'mammoscope_images_refused_total{reason="not_an_image"}') == 2
        assert counted(client, "mammoscope_exam_seconds_count") == 2
        posted = 'mammoscope_http_requests_total{method="POST",route="/v1/exams",status="%d"}'
        assert counted(client, posted % 201) == 1
        assert counted(client, posted % 422) == 1
        lost = 'mammoscope_http_requests_total{method="GET",route="unmatched",status="404"}'
        assert counted(client, lost) == 2
        assert f'sha256="{predictor.bundle.sha256}"' in client.get("/metrics").text


def test_an_internal_error_gives_an_id_and_no_internals(
    serving, predictor, exam_folder, as_form, caplog
):
    watched = Watched(predictor)
    with serving(watched) as client, caplog.at_level(logging.ERROR, logger="mammoscope"):
        watched.error = RuntimeError("secret of patient Jane Doe")
        answer = client.post("/v1/exams", files=as_form([exam_folder / "R_CC.dcm"]))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (500, "internal_error")
        assert re.fullmatch("[0-9a-f]{8}", error["id"])
        assert "Jane" not in answer.text
        assert "Traceback" not in answer.text
        assert error["id"] in caplog.text, "the log must be found by the id"
        assert "RuntimeError" in caplog.text
        assert "Jane" not in caplog.text, "identity must not reach the log"
        watched.error = None
        watched.go_on.set()
        again = client.post("/v1/exams", files=as_form([exam_folder / "R_CC.dcm"]))
        assert again.status_code == 201, "one bug must not stop the service"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/static/nothing.js", 404, "not_found"),
        ("GET", "/static/../app.py", 404, "not_found"),
        ("DELETE", "/v1/exams", 405, "method_not_allowed"),
        ("GET", "/v1/exams/0/images/one.png", 422, "invalid_request"),
    ],
)
def test_every_error_has_the_one_form(service, method, path, status, code):
    answer = service.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"]


def test_every_answer_carries_the_security_headers(service):
    for path in ("/", "/static/app.js", "/v1/model", "/nowhere"):
        headers = service.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    assert service.get("/v1/model").headers["cache-control"] == "no-store"


def test_other_hosts_and_other_sites_are_turned_away(serving, exam_folder, as_form):
    with serving() as client:
        rebound = client.get("/v1/model", headers={"Host": "evil.example:8000"})
        assert (rebound.status_code, rebound.json()["error"]["code"]) == (421, "wrong_host")
        assert client.get("/v1/model", headers={"Host": "localhost:1"}).status_code == 200
        form = as_form([exam_folder / "R_CC.dcm"])
        foreign = client.post("/v1/exams", files=form, headers={"Sec-Fetch-Site": "cross-site"})
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "cross_site")
    with serving(allowed_hosts=None) as client:
        assert client.get("/v1/model", headers={"Host": "mammo.example"}).status_code == 200


def test_the_model_says_what_it_is_and_what_an_upload_may_hold(service, predictor):
    model = service.get("/v1/model").json()
    assert model["synthetic"] is True
    assert model["bundle_sha256"] == predictor.bundle.sha256
    assert model["operating_point"]["image"]["threshold"] == 0.5
    assert model["operating_point"]["breast"]["threshold"] == 0.6
    assert model["operating_point"]["breast"]["sensitivity"]["value"] == 0.81
    assert model["operating_point"]["exam_threshold"] == 0.7
    assert model["operating_point"]["exam"]["threshold"] == 0.7
    assert model["operating_point"]["scored_by"] == "model"
    assert model["limits"]["max_files"] == ServiceSettings().max_files
    assert "not for diagnosis" in model["notice"]


def test_breasts_figures_are_not_published_as_those_of_exams(predictor):
    points = predictor.bundle.operating_points.model_copy(update={"exam": ()})
    bundle = predictor.bundle.model_copy(update={"operating_points": points})
    told = describe_model(bundle, ServiceSettings()).operating_point
    assert told.exam is None
    assert told.exam_threshold == told.breast.threshold == 0.6


def test_the_openapi_document_names_the_upload_the_results_and_the_errors(service):
    operation = service.get("/openapi.json").json()["paths"]["/v1/exams"]["post"]
    assert "multipart/form-data" in operation["requestBody"]["content"]
    assert operation["responses"]["201"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "ResultsDocument"
    )
    assert operation["responses"]["413"]["content"]["application/json"]["schema"]["$ref"].endswith(
        "ErrorDocument"
    )


def test_a_full_disk_is_507(serving, exam_folder, as_form, monkeypatch):
    import errno

    from mammoscope.service.exams import ExamStore

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ExamStore, "keep", full)
    with serving() as client:
        answer = client.post("/v1/exams", files=as_form([exam_folder / "R_CC.dcm"]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")


def test_a_port_in_use_is_named(bundle_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"cannot listen on 127.0.0.1, port {port}"):
            serve(bundle_dir, port=port)


def test_a_bad_bundle_fails_before_a_port_opens(tmp_path):
    with pytest.raises(BundleError):
        serve(tmp_path / "nothing", port=0)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_serve_listens_answers_and_stops_when_interrupted(bundle_dir, host, warned):
    code = "import sys; from mammoscope.service import serve; serve(sys.argv[1], sys.argv[2], 0)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle_dir), host],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        lines = []
        while not (lines and "Ctrl-C" in lines[-1]):
            line = process.stderr.readline()
            assert line, f"the server ended: {lines}"
            lines.append(line)
        said = "".join(lines)
        assert ("no authentication" in said) is warned
        port = int(re.search(r"http://[^/]*:(\d+)/", said)[1])
        assert wait_for(f"http://127.0.0.1:{port}/healthz")["ok"] is True
        process.send_signal(signal.SIGINT)
        process.wait(15)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def wait_for(url: str) -> dict:
    deadline = time.monotonic() + 20
    while True:
        try:
            return json.loads(httpx.get(url, trust_env=False).text)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_the_service_imports_no_torch():
    code = (
        "import sys, mammoscope.service; "
        "sys.exit(any(n.split('.')[0] in ('torch', 'lightning', 'timm') for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
