from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils.image_pull import Progress, explain


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("manifest for lmsysorg/sglang:v9 not found: manifest unknown: manifest unknown", "not_found"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "not_found"),
        (
            "pull access denied for nobody/x, repository does not exist or may require 'docker login': denied: "
            "requested access to the resource is denied",
            "unauthorized",
        ),
        ('Head "https://r/v2/a/manifests/1": no basic auth credentials', "unauthorized"),
        ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "no_space"),
        ("manifest verification failed for digest sha256:00", "wrong_digest"),
        ("filesystem layer verification failed for digest sha256:00", "wrong_digest"),
        ('Get "https://r:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused', "registry_unreachable"),
        ('Get "https://r/v2/": dial tcp: lookup r: no such host', "registry_unreachable"),
        ('Get "https://r/v2/": http: server gave HTTP response to HTTPS client', "registry_unreachable"),
        ('Get "https://r/v2/": x509: certificate signed by unknown authority', "registry_unreachable"),
        ("toomanyrequests: You have reached your pull rate limit.", "rate_limited"),
        ("something else", "pull_failed"),
    ],
)
def test_explain(message, reason):
    found, remedy = explain(message)
    assert found == reason
    assert remedy.endswith(".")


def test_progress_knows_bytes_and_phases():
    times = iter([100.0, 101.0, 102.0, 103.0, 104.0, 109.0, 110.0])
    progress = Progress(clock=lambda: next(times))
    for event in [
        {"status": "Pulling fs layer", "id": "a"},
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 10, "total": 100}},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 7}},
        {"status": "Download complete", "id": "a", "progressDetail": {}},  # what came after the last event counts
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 50, "total": 100}},
        {"status": "Pull complete", "id": "a"},
    ]:
        progress.take(event)
    assert progress.bytes_pulled == 107
    assert progress.phases() == [
        {"name": "download", "start": 100.0, "seconds": 4.0, "bytes": 107},
        {"name": "extract", "start": 104.0, "seconds": 6.0},
    ]


def test_nothing_to_download():
    times = iter([100.0, 101.0])
    progress = Progress(clock=lambda: next(times))
    progress.take({"status": "Status: Image is up to date for a:1"})
    assert (progress.bytes_pulled, progress.phases()[0]["seconds"]) == (0, 0.0)
