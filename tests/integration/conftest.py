"""Fixtures of the end-to-end tests: the fleet and the Hub of the lab."""

from __future__ import annotations

import pytest
from lab_fleet import Fleet, Hub


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture(scope="session")
def hub() -> Hub:
    return Hub()
