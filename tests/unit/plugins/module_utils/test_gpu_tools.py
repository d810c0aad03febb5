from __future__ import annotations

import sys

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import gpu_tools


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("81559 MiB", 81559 * 1024**2),
        ("0 MiB", 0),
        ("81559", 81559),
        ({"value": 65520, "unit": "MB"}, 65520 * 1024**2),
        ({"value": 48000, "unit": "B"}, 48000),
        ({"value": 12}, 12),
        ("1.5 GiB", 3 * 512 * 1024**2),
        ("N/A", None),
        ("[N/A]", None),
        ("[Not Supported]", None),
        ("ERR!", None),
        ("Unknown Error", None),
        ({"value": "N/A", "unit": "MB"}, None),
        ("12 parsecs", None),
        ("", None),
        (None, None),
    ],
)
def test_quantity_bytes(text, expected):
    assert gpu_tools.quantity_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("37 %", 37.0), ("0", 0.0), ({"value": 91, "unit": "%"}, 91.0), ("N/A", None), ("ERR!", None), (None, None)],
)
def test_quantity_percent(text, expected):
    assert gpu_tools.quantity_percent(text) == expected


@pytest.mark.parametrize("text", ["N/A", "[N/A]", "[Not Supported]", "None", "", "  ", None, "ERR!"])
def test_known_says_nothing_for_a_missing_value(text):
    assert gpu_tools.known(text) is None


def test_a_hanging_tool_is_given_up():
    with pytest.raises(gpu_tools.ToolError, match=r"gave no answer within 0\.2 s"):
        gpu_tools.run_tool([sys.executable, "-c", "import time; time.sleep(30)"], 0.2)


def test_a_tool_gets_an_untranslated_environment():
    script = "import os, sys; print(os.environ['LC_ALL']); sys.exit(3)"
    assert gpu_tools.run_tool([sys.executable, "-c", script], 30) == (3, "C\n", "")


def test_failure_is_one_line_and_names_the_exit_code():
    assert gpu_tools.failure("nvidia-smi", 9, "it\nfailed\n", "") == "nvidia-smi (exit code 9): it failed"
