"""Servers as sglang_server_info tells of them: a real HTTP server behind containers that a fake engine describes."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ansible_collections.preheat.fleet.plugins.module_utils import sglang_endpoints, sglang_inspection
from ansible_collections.preheat.fleet.plugins.module_utils.docker_failure import LaunchError

COMMIT = "1e" + "5" * 38
KEY = "sk-never-to-be-seen"
METRICS = """\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="a \\"b\\""} 3.0
sglang:token_usage NaN
sglang:e2e_request_latency_seconds_bucket{le="0.1"} 7.0
sglang:e2e_request_latency_seconds_sum 4.5
python_gc_objects_collected_total{generation="0"} 9.0
"""
SERVER_INFO = {
    "version": "0.5.23",
    "tp_size": 2,
    "api_key": KEY,
    "enable_metrics": True,
    "internal_states": [{"tp_size": 2, "api_key": KEY, "last_gen_throughput": 812.5}],
}
NEW = {"/health": 200, "/model_info": {"model_path": "org/name"}, "/server_info": SERVER_INFO, "/metrics": METRICS}
OLD = {"/health": 200, "/get_model_info": {"model_path": "org/name"}, "/get_server_info": {"version": "0.4.10"}}


@pytest.fixture
def serve():
    """Starts a server that answers as told ({path: status, object or text}, else 404); its port."""
    servers = []

    def start(answers):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer = answers.get(self.path, 404)
                self.send_response(answer if isinstance(answer, int) else 200)
                self.end_headers()
                if not isinstance(answer, int):
                    self.wfile.write((answer if isinstance(answer, str) else json.dumps(answer)).encode())

            def log_message(self, *arguments):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1].server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def container(name="chat", port=30000, status="running", **config):
    spec = {
        "publish_host": "0.0.0.0",
        "gpus": ["0", "1"],
        "gpu_access": "cdi",
        "environment": {"B_TOKEN": "x", "A": "y"},
    }
    labels = {"preheat.managed": "true", "preheat.port": str(port), "preheat.spec": json.dumps(spec), "team": "search"}
    command = [
        "python3",
        "-m",
        "sglang.launch_server",
        "--model-path",
        "org/name",
        "--revision",
        COMMIT,
        "--tp-size",
        "2",
    ]
    return {
        "Name": f"/{name}",
        "Id": f"id-of-{name}",
        "Created": "2026-11-23T08:28:12.1Z",
        "Image": "sha256:1",
        "State": {"Status": status, "ExitCode": 0 if status == "running" else 137},
        "Mounts": [{"Source": "/data/hub", "Destination": "/root/.cache/huggingface/hub"}],
        "Config": {
            "Labels": labels,
            "Env": ["A=1", f"B_TOKEN={KEY}"],
            "Cmd": [*command, "--host", "0.0.0.0", "--port", "30000"],
        }
        | config,
    }


class Engine:
    """What the inspection asks of a DockerClient."""

    def __init__(self, *containers):
        self.containers = {container["Name"].lstrip("/"): container for container in containers}
        self.labels = None

    def container(self, name):
        return self.containers.get(name)

    def managed_names(self, labels):
        self.labels = labels
        return sorted(self.containers)

    def image(self, name):
        return {"Id": name, "RepoTags": ["org/sglang:v1"], "RepoDigests": ["org/sglang@sha256:2"]}


def look(*containers, launches=(), **params):
    defaults = {"name": None, "port": None, "match_labels": {}, "timeout_seconds": 5}
    return sglang_inspection.servers(Engine(*containers), defaults | params, launches)


def test_a_server_with_all_that_is_known_of_it(serve):
    port = serve(NEW)
    launch = {
        "container_id": "id-of-chat",
        "image": "org/sglang:pinned",
        "phases": {"engine_start": 9.5},
        "ready": True,
    }
    launch |= {
        "cache": {"weights_rung": "page_cache"},
        "start": 1.0,
        "seconds": 9.5,
        "error_class": None,
        "commit": "x",
    }
    (server,) = look(container(port=port), launches=[{"container_id": "other"}, launch])
    folder = f"models--org--name/snapshots/{COMMIT}"
    assert server == {
        "name": "chat",
        "id": "id-of-chat",
        "state": "running",
        "exit_code": None,
        "created": "2026-11-23T08:28:12.1Z",
        "image": "org/sglang:pinned",
        "image_digest": "sha256:2",
        "model": {
            "repo_id": "org/name",
            "commit": COMMIT,
            "path": f"/data/hub/{folder}",
            "container_path": f"/root/.cache/huggingface/hub/{folder}",
        },
        "host": "0.0.0.0",
        "port": port,
        "url": f"http://127.0.0.1:{port}",
        "gpus": ["0", "1"],
        "gpu_access": "cdi",
        "parameters": {"tp_size": 2},
        "environment": ["A", "B_TOKEN"],
        "labels": {"team": "search"},
        "health": 200,
        "ready": True,
        "engine_version": "0.5.23",
        "model_info": {"model_path": "org/name"},
        "server_info": SERVER_INFO | {"api_key": "********", "internal_states": [{"last_gen_throughput": 812.5}]},
        "metrics": [
            {
                "name": "sglang:num_running_reqs",
                "labels": {"engine_type": "unified", "model_name": 'a "b"'},
                "value": 3.0,
            },
            {"name": "sglang:token_usage", "labels": {}, "value": None},
            {"name": "sglang:e2e_request_latency_seconds_sum", "labels": {}, "value": 4.5},
        ],
        "launch": {
            "start": 1.0,
            "seconds": 9.5,
            "phases": {"engine_start": 9.5},
            "cache": {"weights_rung": "page_cache"},
            "ready": True,
            "error_class": None,
        },
        "notes": [],
    }


def test_an_older_server_answers_at_the_older_endpoints(serve):
    (server,) = look(container(port=serve(OLD)))
    assert (server["engine_version"], server["model_info"], server["metrics"]) == (
        "0.4.10",
        {"model_path": "org/name"},
        None,
    )
    assert server["image"] == "org/sglang:v1"
    assert server["launch"] is None
    assert "facts_file" in server["notes"][0]


@pytest.mark.parametrize(
    ("answers", "ready", "notes"),
    [
        (
            {"/health": 503},
            False,
            ["model_info: /model_info answers 404, /get_model_info answers 404", "server_info: "],
        ),
        (NEW | {"/server_info": 401}, True, ["server_info: /server_info answers 401, /get_server_info answers 404"]),
        (
            NEW | {"/server_info": "no JSON"},
            True,
            ["server_info: /server_info answers with something that is no JSON object"],
        ),
        (NEW | {"/model_info": []}, True, ["model_info: /model_info answers with something"]),
        (NEW | {"/metrics": 404}, True, ["metrics: /metrics answers 404"]),
    ],
)
def test_an_endpoint_that_gives_nothing_costs_a_note(serve, answers, ready, notes):
    (server,) = look(container(port=serve(answers)), launches=[{"container_id": "id-of-chat"}])
    assert server["ready"] is ready
    assert len(server["notes"]) == len(notes)
    for note, expected in zip(server["notes"], notes):
        assert note.startswith(expected)


def test_a_server_whose_port_nobody_answers(serve):
    port = serve({})
    closed = sglang_inspection.servers(Engine(container(port=1), container("other", port)), {
        "name": None, "port": None, "match_labels": {}, "timeout_seconds": 5
    }, [])  # fmt: skip
    assert [server["health"] for server in closed] == [None, 404]
    assert closed[0]["notes"][0] == "nothing answers at 127.0.0.1:1 within 5 s"


def test_a_container_that_ended_is_not_asked():
    (server,) = look(container(status="exited", port=1), launches=[{"container_id": "id-of-chat"}])
    assert (server["state"], server["exit_code"], server["health"], server["notes"]) == ("exited", 137, None, [])


def test_which_servers_are_told_of():
    stopped = [container(name, port, "exited") for name, port in (("a", 1), ("b", 2))]
    daemon = container("weights", 0)
    assert [server["name"] for server in look(*stopped, daemon)] == ["a", "b"]
    assert [server["name"] for server in look(*stopped, port=2)] == ["b"]
    assert [server["name"] for server in look(*stopped, name="a")] == ["a"]
    assert look(*stopped, name="c") == []
    stranger = container("mine", Labels={"preheat.managed": "no"}, Image="busybox")
    with pytest.raises(LaunchError, match="mine"):
        look(stranger, name="mine")


def test_secrets_in_flags_are_masked():
    flags = ["--model-path", "/models/x", "--api-key", KEY, "--note", f"uses {KEY}"]
    (server,) = look(container(status="exited", Cmd=flags))
    assert server["parameters"] == {"api_key": "********", "note": "uses ********"}
    assert server["model"] == {
        "repo_id": None, "commit": None, "path": "/models/x", "container_path": "/models/x",
    }  # fmt: skip
    assert KEY not in json.dumps(server)


def test_a_label_that_says_nothing():
    bare = container(status="exited")
    bare["Config"]["Labels"]["preheat.spec"] = "{"
    (server,) = look(bare)
    assert (server["host"], server["gpus"], server["environment"]) == ("127.0.0.1", [], [])


def test_states_that_are_no_list_stay():
    assert sglang_endpoints.without_repeats({"internal_states": {"a": 1}}) == {"internal_states": {"a": 1}}
    assert sglang_endpoints.without_repeats({}) == {}
