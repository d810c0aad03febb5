"""Headless Chromium: a page as it looks, and what its elements measure."""

from __future__ import annotations

import contextlib
import html
import json
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PICTURES = Path(__file__).parents[2] / ".lab" / "browser"

_ERRORS = """<script>
window.pageErrors = [];
addEventListener('error', event => pageErrors.push(event.message));
addEventListener('unhandledrejection', event => pageErrors.push(String(event.reason)));
</script>"""
_RESULT = re.compile(r'<pre id="measured">(.*?)</pre>', re.DOTALL)


def _chromium(*arguments: str) -> str:
    with tempfile.TemporaryDirectory(prefix="preheat-chromium-") as profile:
        # The pages are our own files: no sandbox, which needs what containers do not give.
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--hide-scrollbars", "--virtual-time-budget=20000", f"--user-data-dir={profile}",
                   *arguments]  # fmt: skip
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stdout


def _scheme(dark: bool) -> str:
    return f"--blink-settings=preferredColorScheme={0 if dark else 1}"


def measure(page: Path | str, script: str, *, dark: bool = False, width: int = 1280):
    """What the body of a JavaScript function returns, run in the page (a file, or a URL) after everything is drawn."""
    with _probed(page, script) as url:
        dom = _chromium(_scheme(dark), f"--window-size={width},2000", "--dump-dom", url)
    return json.loads(html.unescape(_RESULT.search(dom).group(1)))


def _with_probe(text: str, script: str) -> str:
    probe = f"""<script>
    setTimeout(() => {{
      let found;
      try {{ found = (() => {{ {script} }})(); }} catch (error) {{ found = {{failed: String(error)}}; }}
      const result = document.createElement('pre');
      result.id = 'measured';
      result.textContent = JSON.stringify(found);
      document.body.append(result);
    }}, 5000);
    </script>"""
    head, tail = text.replace("<head>", "<head>" + _ERRORS, 1).rsplit("</body>", 1)
    return head + probe + "</body>" + tail


@contextlib.contextmanager
def _probed(page: Path | str, script: str) -> Iterator[str]:
    """Where the page is with the probe in it: a copy of a file, or a server between the browser and the page's own."""
    if isinstance(page, Path):
        with tempfile.TemporaryDirectory(prefix="preheat-page-") as folder:
            copy = Path(folder) / "page.html"
            copy.write_text(_with_probe(page.read_text(), script))
            yield copy.as_uri()
        return
    origin, path = re.fullmatch(r"(https?://[^/]+)(/.*)", page).groups()

    class Between(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                with urllib.request.urlopen(origin + self.path, timeout=60) as answer:
                    status, kind, body = answer.status, answer.headers["Content-Type"], answer.read()
            except urllib.error.HTTPError as error:
                status, kind, body = error.code, error.headers["Content-Type"], error.read()
            if kind.startswith("text/html"):  # without the page's rule against scripts in it
                body = _with_probe(body.decode(), script).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Between) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{path}"
        server.shutdown()


def picture(page: Path | str, name: str, *, dark: bool = False, width: int = 1280, height: int = 4000) -> Path:
    """A screenshot of a file or a URL, kept in C(.lab/browser) to be looked at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    url = page.as_uri() if isinstance(page, Path) else page
    _chromium(_scheme(dark), f"--window-size={width},{height}", f"--screenshot={path}", url)
    return path


def pdf(page: Path, name: str) -> Path:
    """The page on paper."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.pdf"
    _chromium(f"--print-to-pdf={path}", "--no-pdf-header-footer", page.as_uri())
    return path
