from types import SimpleNamespace

import pytest

from ansible_collections.preheat.fleet.plugins.plugin_utils.module_failure import swarm_error

TRACE = "Traceback (most recent call last):\n  File x\nImportError: no libtorrent\n"


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"message": "No room.", "msg": "No room. Free some."}, "No room."),
        ({"msg": "It is gated"}, "It is gated."),
        ({"exception": TRACE}, "The module crashed: ImportError: no libtorrent."),
        (
            {"exception": SimpleNamespace(event=SimpleNamespace(formatted_traceback=TRACE))},
            "The module crashed: ImportError: no libtorrent.",
        ),
        ({"module_stderr": "sh: 1: python: not found\n"}, "The module crashed: sh: 1: python: not found."),
        ({}, "The module said nothing."),
    ],
)
def test_what_is_said_of_a_failure(result, message):
    assert swarm_error({"failed": True, **result}).message == message


def test_reason_remedy_and_details_are_kept():
    error = swarm_error({"msg": "m", "reason": "disk_full", "remedy": "Free some.", "exception": TRACE})
    assert (error.reason, error.remedy, str(error)) == ("disk_full", "Free some.", "m. Free some.")
    assert error.details == TRACE.strip()
