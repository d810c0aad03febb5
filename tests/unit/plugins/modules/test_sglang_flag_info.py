"""What an image answers; what it cannot say is no failure."""

from __future__ import annotations

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_help
from ansible_collections.preheat.fleet.plugins.modules.sglang_flag_info import answer

HELP = "options:\n  --model-path MODEL_PATH\n  --tp-size TP_SIZE\n"
IMAGE = {"Id": "sha256:0123456789abcdef"}


class Client:
    def __init__(self, image=IMAGE, text=HELP, text_with_gpu=None):
        self._image, self._text, self._text_with_gpu = image, text, text_with_gpu
        self.asked = []

    def image(self, name):
        return self._image

    def output_of_image(self, image_id, command, gpus=()):
        self.asked.append((image_id, command, list(gpus)))
        return self._text_with_gpu if gpus else self._text


def test_an_image_is_asked_by_its_id():
    client = Client()
    said = answer(client, "engine:1")
    assert [entry["names"] for entry in said.pop("flags")] == [["model-path"], ["tp-size"]]
    assert said == {"changed": False, "reason": "", "image_id": IMAGE["Id"]}
    assert client.asked == [(IMAGE["Id"], sglang_help.COMMAND, [])]


def test_an_image_that_wants_the_drivers_libraries_gets_them():
    client = Client(text=None, text_with_gpu=HELP)
    assert len(answer(client, "engine:1")["flags"]) == 2
    assert [gpus for _image, _command, gpus in client.asked] == [[], [0]]


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (Client(image=None), "is not on the host"),
        (Client(text=None), "failed in image 'engine:1'"),
        (Client(text="usage: other"), "is not SGLang's in image 'engine:1'"),
    ],
)
def test_an_image_that_cannot_say(client, reason):
    said = answer(client, "engine:1")
    assert said["flags"] == []
    assert reason in said["reason"]
