"""Imported before the tests of this folder, which import timm and torchvision by themselves."""

import mammoscope.models  # noqa: F401 - it makes torchvision importable beside a CPU-only torch
