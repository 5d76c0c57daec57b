"""Fixtures that tests of several rooms share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["fixtures.images", "fixtures.bundles", "fixtures.layouts", "fixtures.serving"]

# How long a machine takes says nothing about the code: nothing that is timed fails a test.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
