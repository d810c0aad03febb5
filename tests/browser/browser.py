"""Headless Chromium: a page as it looks, and what its elements measure."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
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


def measure(page: Path, script: str, *, dark: bool = False, width: int = 1280):
    """What the body of a JavaScript function returns, run in the page after everything is drawn."""
    text = page.read_text()
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
    with tempfile.TemporaryDirectory(prefix="preheat-page-") as folder:
        copy = Path(folder) / "page.html"
        head, tail = text.replace("<head>", "<head>" + _ERRORS, 1).rsplit("</body>", 1)
        copy.write_text(head + probe + "</body>" + tail)
        dom = _chromium(_scheme(dark), f"--window-size={width},2000", "--dump-dom", copy.as_uri())
    return json.loads(html.unescape(_RESULT.search(dom).group(1)))


def picture(page: Path, name: str, *, dark: bool = False, width: int = 1280, height: int = 4000) -> Path:
    """A screenshot, kept in C(.lab/browser) to be looked at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    _chromium(_scheme(dark), f"--window-size={width},{height}", f"--screenshot={path}", page.as_uri())
    return path


def pdf(page: Path, name: str) -> Path:
    """The page on paper."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.pdf"
    _chromium(f"--print-to-pdf={path}", "--no-pdf-header-footer", page.as_uri())
    return path
