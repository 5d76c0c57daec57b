"""The house itself: exported names, one error tree, and what may not be imported."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
import subprocess
import sys

import pytest

import mammoscope
from mammoscope import errors, log

WITHOUT_TORCH = ("torch", "torchvision", "timm", "lightning")


def test_every_error_hangs_in_the_drawn_tree():
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
    raised = {cls.__name__ for cls in classes if issubclass(cls, Exception)}
    drawn = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert raised == drawn
    assert raised <= set(errors.__all__)
    assert all(
        issubclass(cls, errors.MammoscopeError) for cls in classes if issubclass(cls, Exception)
    )


def test_every_module_exports_what_it_says():
    names = [module.name for module in pkgutil.walk_packages(mammoscope.__path__, "mammoscope.")]
    assert len(names) > 60
    for name in names:
        if name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{name}.{public}"


def test_the_library_is_what_the_readme_says():
    assert {"load_bundle", "read_exam", "Exam", "ExamResult", "Predictor"} <= set(
        mammoscope.__all__
    )
    for name in mammoscope.__all__:
        assert getattr(mammoscope, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        _ = mammoscope.predict


@pytest.mark.parametrize(
    "statement",
    [
        "import mammoscope.inference, mammoscope.service, mammoscope.cohort.prepare",
        "import mammoscope.cohort.ingest, mammoscope.cohort.synthetic, mammoscope.evaluation",
        "import mammoscope; mammoscope.load_bundle; mammoscope.read_exam",
        "import mammoscope.cli",
    ],
)
def test_what_serves_and_prepares_imports_no_torch(statement):
    code = f"{statement}\nimport sys\nprint([m for m in {WITHOUT_TORCH} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_the_library_logs_only_when_asked(capsys):
    logger = log.get_logger("mammoscope.test")
    logger.warning("unheard")
    assert capsys.readouterr().err == ""
    root = logging.getLogger("mammoscope")
    before, level = list(root.handlers), root.level
    try:
        log.enable(logging.INFO)
        log.enable(logging.INFO)
        logger.info("heard once")
        assert capsys.readouterr().err.count("heard once") == 1
    finally:
        root.handlers, root.level = before, level
