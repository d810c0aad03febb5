"""sweep_storage: what is refused before anything is connected to, and no password in what is said of it."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils import study_postgresql, study_sharing
from ansible_collections.preheat.fleet.plugins.plugin_utils.sweep_owner import StudyError

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql://preheat:{SECRET}@db/sweeps", "holds a password"),
        (f"postgresql://preheat:{SECRET}%40x@db:5432/sweeps?sslmode=require", "holds a password"),
        ("postgresql://preheat:@db/sweeps", "holds a password"),
        (f"postgresql://preheat@db/sweeps?password={SECRET}", "holds a password"),
        (f"postgresql://preheat@db/sweeps?sslmode=require&sslpassword={SECRET}", "holds a password"),
        (f"mysql://preheat:{SECRET}@db/sweeps", "no URL of a PostgreSQL database"),
        (f"postgresql+psycopg://preheat:{SECRET}@db/sweeps", "no URL of a PostgreSQL database"),
        (f"postgresql://preheat:{SECRET}@db:port/sweeps", "no URL of a PostgreSQL database"),
        (f"postgresql://preheat:{SECRET}/with/slashes@db/sweeps", "no URL of a PostgreSQL database"),
        (f"postgresql://preheat:{SECRET}@{SECRET}@db/sweeps", "holds a password"),
        (f"preheat:{SECRET}@db/sweeps", "no URL of a PostgreSQL database"),
        ("postgresql://preheat@db", "no URL of a PostgreSQL database"),
        ("sqlite:///sweeps.db", "no URL of a PostgreSQL database"),
        ("db.example.com", "no URL of a PostgreSQL database"),
    ],
)
def test_what_is_refused(url, message):
    (found,) = study_postgresql.check_url(url)
    assert found["variable"] == "sweep_storage"
    assert message in found["message"]
    assert found["remedy"]
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://preheat@db/sweeps",
        "postgresql://preheat@db.example.com:6432/sweeps?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://preheat@[::1]/sweeps",
        "postgresql://preheat@/sweeps?host=/run/postgresql",
    ],
)
def test_what_is_accepted(url):
    assert study_postgresql.check_url(url) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://preheat@db/sweeps", "postgresql://preheat@db/sweeps"),
        (f"postgresql://preheat:{SECRET}@db/sweeps?sslmode=require", "postgresql://preheat:***@db/sweeps"),
        ("postgresql://db/sweeps", "postgresql://db/sweeps"),
    ],
)
def test_what_is_shown(url, shown):
    assert study_postgresql.masked(url) == shown


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(study_postgresql.libraries, "missing", ", ".join)
    (found,) = study_postgresql.check_url("postgresql://preheat@db/sweeps")
    assert "psycopg[binary]" in found["message"]
    assert "requirements/controller.txt" in found["remedy"]


def test_a_server_that_is_not_there_is_said():
    with pytest.raises(StudyError, match=r"postgresql://preheat@127.0.0.1:1/sweeps cannot be used: .*refused"):
        study_sharing.earlier_plan("postgresql://preheat@127.0.0.1:1/sweeps", "s")


def test_locks_of_other_studies_and_kinds_are_others():
    keys = [study_postgresql._key(study, kind, name)
            for study in ("s", "t") for kind in ("slot", "trial") for name in (1, "1/0", 11)]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert all(-(2**63) <= key < 2**63 for key in keys)
    assert min(keys) < 0 < max(keys), "the sign bit is used"
