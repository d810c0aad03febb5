"""A stand-in for SGLang, for tests: see README.md. It holds no model and generates no text."""

__version__ = "0.5.15+light"
