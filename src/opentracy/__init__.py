"""One call to any language model, and a self-hosted engine that learns which model should answer which prompt."""

__version__ = "1.0.0"
