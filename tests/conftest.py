"""Fixtures that tests of several rooms share."""

from __future__ import annotations

pytest_plugins = ["fixtures.images", "fixtures.bundles", "fixtures.layouts", "fixtures.serving"]
