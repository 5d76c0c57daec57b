"""Fixtures that tests of several rooms share."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

pytest_plugins = [
    "fixtures.images",
    "fixtures.bundles",
    "fixtures.layouts",
    "fixtures.lesions",
    "fixtures.serving",
]

# How long a machine takes says nothing about the code: nothing that is timed fails a test.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# A shell's background job ignores Ctrl-C, and so would the processes that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
