"""An image is asked once, and what it cannot say is no failure."""

from __future__ import annotations

import json

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_help
from ansible_collections.preheat.fleet.plugins.modules.sglang_flag_info import answer

HELP = "options:\n  --model-path MODEL_PATH\n  --tp-size TP_SIZE\n"
IMAGE = {"Id": "sha256:0123456789abcdef"}


class Client:
    def __init__(self, image=IMAGE, text=HELP):
        self._image, self._text = image, text
        self.asked = []

    def image(self, name):
        return self._image

    def output_of_image(self, image_id, command):
        self.asked.append((image_id, command))
        return self._text


def test_an_image_is_asked_once(tmp_path):
    client = Client()
    first = answer(client, "engine:1", str(tmp_path / "flags"))
    second = answer(client, "engine:2", str(tmp_path / "flags"))  # another name of the same image
    assert [entry["names"] for entry in first["flags"]] == [["model-path"], ["tp-size"]]
    assert (first["cached"], second["cached"]) == (False, True)
    assert second["flags"] == first["flags"]
    assert client.asked == [("sha256:0123456789abcdef", sglang_help.COMMAND)]
    assert [path.name for path in (tmp_path / "flags").iterdir()] == ["0123456789ab.json"]


@pytest.mark.parametrize("kept", ["", "{", "[]", json.dumps({"image_id": "sha256:0123456789abffff", "flags": [1]})])
def test_an_answer_that_is_not_this_images_is_asked_for_again(tmp_path, kept):
    (tmp_path / "0123456789ab.json").write_text(kept)
    client = Client()
    assert len(answer(client, "engine:1", str(tmp_path))["flags"]) == 2
    assert len(client.asked) == 1


def test_nothing_is_kept_in_check_mode_or_where_nothing_can_be_written(tmp_path):
    assert answer(Client(), "engine:1", str(tmp_path), keep=False)["flags"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert answer(Client(), "engine:1", str(tmp_path / "file"))["flags"]
    assert answer(Client(), "engine:1", None)["flags"]


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (Client(image=None), "is not on the host"),
        (Client(text=None), "failed in image 'engine:1'"),
        (Client(text="usage: other"), "is not SGLang's in image 'engine:1'"),
    ],
)
def test_an_image_that_cannot_say(tmp_path, client, reason):
    said = answer(client, "engine:1", str(tmp_path))
    assert said["flags"] == []
    assert reason in said["reason"]
    assert list(tmp_path.iterdir()) == []
