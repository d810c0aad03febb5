"""python3 -m sglang.launch_server: start-up, endpoints and failures of SGLang 0.5.15, without the engine."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sglang import __version__
from sglang.flags import build_parser
from sglang.weights import find_snapshot, read_weights

# Share of LIGHT_ENGINE_START_SECONDS that each step of the start takes.
STEP_SHARES = {"import": 0.5, "load": 0.2, "kv_cache": 0.1, "warmup": 0.2}


def log(message: str) -> None:
    print(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def wait(step: str) -> None:
    time.sleep(float(os.environ.get("LIGHT_ENGINE_START_SECONDS") or 1.0) * STEP_SHARES[step])


def fail_if_asked() -> None:
    """LIGHT_ENGINE_FAULT=hang|crash|out_of_memory: what goes wrong while the weights are loaded."""
    fault = os.environ.get("LIGHT_ENGINE_FAULT")
    if fault == "hang":
        threading.Event().wait()
    if fault == "out_of_memory":
        raise RuntimeError(
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of"
            " 79.11 GiB of which 3.41 GiB is free."
        )
    if fault == "crash":
        raise RuntimeError("the light engine was asked to crash")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    ready = False
    generated = 0

    def __init__(self, address: tuple, flags: dict) -> None:
        super().__init__(address, Handler)
        self.flags = flags

    def generate(self) -> bool:
        """Whether one more request succeeds. LIGHT_ENGINE_FAULT=requests: every fourth does not."""
        self.generated += 1
        return os.environ.get("LIGHT_ENGINE_FAULT") != "requests" or self.generated % 4 != 0


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        flags = self.server.flags
        if path in ("/health", "/health_generate"):
            self._send(200 if self.server.ready else 503, b"")
        elif path in ("/model_info", "/get_model_info"):
            self._send_json({"is_generation": True, **{key: flags[key] for key in ("model_path", "tokenizer_path")}})
        elif path in ("/server_info", "/get_server_info"):
            self._send_json({**flags, "version": __version__, "internal_states": [{}]})
        elif path == "/v1/models":
            self._send_json({"object": "list", "data": [{"id": flags["served_model_name"], "object": "model"}]})
        elif path == "/flush_cache":
            self._send(200, b"Cache flushed.\n")
        elif path not in ("/generate", "/v1/chat/completions", "/v1/completions"):
            self._send(404, b'{"detail":"Not Found"}')
        elif self.server.generate():
            message = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "length"}
            self._send_json({"text": "", "choices": [message]})
        else:
            self._send(500, b"Internal Server Error")

    def _send_json(self, body: dict) -> None:
        self._send(200, json.dumps(body, default=str).encode(), "application/json")

    def _send(self, status: int, body: bytes, content_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, template: str, *arguments: object) -> None:
        request, status = arguments[0], arguments[1] if len(arguments) > 1 else "-"
        log(f'INFO:     {self.client_address[0]}:{self.client_address[1]} - "{request}" {status}')


def load(flags: dict) -> None:
    """From nothing to weights and KV cache, with the marks that SGLang 0.5.15 logs on the way."""
    log(f"server_args=ServerArgs({', '.join(f'{name}={value!r}' for name, value in flags.items())})")
    snapshot = find_snapshot(flags["model_path"], flags["revision"])
    wait("import")
    log("Init torch distributed begin.")
    log("Init torch distributed ends. elapsed=0.00 s, mem usage=0.00 GB")
    log("Load weight begin. avail mem=79.11 GB")
    log(f"Found local HF snapshot for {flags['model_path']} at {snapshot}; skipping download.")
    begin = time.monotonic()
    fail_if_asked()
    size_bytes = read_weights(snapshot)
    wait("load")
    log(
        f"Load weight end. elapsed={time.monotonic() - begin:.2f} s, type=LightForCausalLM, avail mem=79.11 GB,"
        f" mem usage={size_bytes / 2**30:.2f} GB."
    )
    if (flags["mem_fraction_static"] or 0.88) < 0.2:
        raise RuntimeError(
            "Not enough memory. Please try to increase --mem-fraction-static. Current value:"
            f" self.server_args.mem_fraction_static={flags['mem_fraction_static']}"
        )
    wait("kv_cache")
    log("KV Cache is allocated. dtype: torch.bfloat16, #tokens: 8192, K size: 0.00 GB, V size: 0.00 GB")
    log("Memory pool end. avail mem=79.00 GB")


def main() -> None:
    # PID 1 has no default handler: without this, `docker stop` would wait and then kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    flags = vars(build_parser("launch_server").parse_args())
    flags["tokenizer_path"] = flags["tokenizer_path"] or flags["model_path"]
    flags["served_model_name"] = flags["served_model_name"] or flags["model_path"]
    load(flags)

    tokenizer = find_snapshot(flags["tokenizer_path"], flags["revision"])
    server = Server((flags["host"], flags["port"]), {**flags, "tokenizer_path": str(tokenizer)})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log("INFO:     Application startup complete.")
    log(f"INFO:     Uvicorn running on http://{flags['host']}:{flags['port']} (Press CTRL+C to quit)")
    wait("warmup")
    server.ready = True
    log("The server is fired up and ready to roll!")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
