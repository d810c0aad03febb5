"""No module has more than some 200 lines of code: what grows beyond is divided."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = 210
# What ansible-doc reads.
TEXTS = ("DOCUMENTATION", "EXAMPLES", "RETURN")
BLANK = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def is_text(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return getattr(node.targets[0], "id", "") in TEXTS
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def lines_of_code(source: str) -> int:
    """Without comments, docstrings and documentation."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for token in tokens if token.type not in BLANK for line in range(token.start[0], token.end[0] + 1)}
    bodies = [node.body for node in ast.walk(ast.parse(source)) if isinstance(getattr(node, "body", None), list)]
    texts = [node for body in bodies for node in body if is_text(node)]
    return len(lines - {line for node in texts for line in range(node.lineno, node.end_lineno + 1)})


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("", 0),
        ("# a\n\nx = 1  # b\n", 1),
        ('"""a\nb"""\n\n\ndef f():\n    """c"""\n    return [\n        1,\n    ]\n', 4),
        ('RETURN = """\na\n"""\nx = """\na\n"""\n', 3),
    ],
)
def test_what_counts(source, lines):
    assert lines_of_code(source) == lines


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("plugins/*/*.py")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_a_module_is_small(file):
    assert lines_of_code(file.read_text()) <= MOST_LINES
