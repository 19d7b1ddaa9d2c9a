"""Embedders by name, those behind a provider's endpoint included, for the commands that train and use routers.

Belongs here: joining `opentracy.routing.RemoteEmbedder`, which opens no socket, with the calls of this package. Not
here: what an embedder must offer (`opentracy.routing.embed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentracy.routing import Embedder, Router

_PREFIX = "remote:"


def _post(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """One request to the provider that the model names, with its key from the environment."""
    import opentracy

    answer = opentracy.embedding(model=body["model"], input=list(body["input"]), num_retries=2)
    return {"data": [{"index": row["index"], "embedding": row["embedding"]} for row in answer["data"]]}


def embedder_named(name: str) -> Embedder:
    """`static`, `minilm`, `provider/model`, or the id that an artifact holds.

    An endpoint is asked once for the length of its vectors. Raises ValueError for an unknown name, and what calling the
    provider raises.
    """
    from opentracy.routing.embed import embedder_by_id

    model = name.removeprefix(_PREFIX)
    if "/" not in model:
        return embedder_by_id(name)
    from opentracy.routing.embed_remote import RemoteEmbedder

    rows = _post({"model": model, "input": ["How long are your vectors?"]})["data"]
    return RemoteEmbedder(_post, model, len(rows[0]["embedding"]))


def open_router(source: str) -> Router:
    """The router in a directory, or the bundled one for "default", with the embedder that it was trained with."""
    from pathlib import Path

    from opentracy.routing.artifact import read
    from opentracy.routing.router import load

    if source == "default":
        return load()
    name = read(Path(source)).manifest.embedder
    return load(source, embedder=embedder_named(name) if name.startswith(_PREFIX) else None)
