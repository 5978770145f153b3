"""Run and serve: a prepared model, a runtime chosen for it, and a server or a conversation."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lading.api._prepare import prepare
from lading.events import Noted
from lading.runtime import ServeSettings, choose, from_artifact, merged
from lading.runtime.settings import Sampling
from lading.server import FileWatch, Launch, check_address, detach, http_probe, logs, name_for, start, stop
from lading.server import servers as living_servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lading.api._prepare import Prepared
    from lading.api.session import Session
    from lading.chat import Chat, Wishes
    from lading.runtime import ArtifactSettings, Runtime
    from lading.server import Server, ServerRecord
    from lading.store import Watch

DEFAULT_CONTEXT = 8192
"""Tokens, when neither the user nor the artifact says: what a model was trained for may need all memory."""

_ANSWER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose for a server; None leaves it to the artifact, the model or the runtime."""

    host: str = "127.0.0.1"
    port: int = 8080
    api_keys: tuple[str, ...] = ()
    ctx_size: int | None = None
    threads: int | None = None
    n_gpu_layers: int | None = None
    alias: str | None = None
    embeddings: bool = False
    runtime: str | None = None
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class Serving:
    """A model that is being served in the foreground."""

    prepared: Prepared
    runtime: Runtime
    server: Server
    ctx_size: int


@dataclass(frozen=True, slots=True)
class Talk:
    """A model that answers: ask `chat`, and `serving` tells by what."""

    serving: Serving
    chat: Chat


@contextmanager
def serve(session: Session, text: str, options: Options, environment: Mapping[str, str]) -> Iterator[Serving]:
    """Serve a model until the block ends. `environment` is the user's, for finding the runtime.

    Raises PolicyError for an address beyond this machine without a key before anything is fetched, UnfitError without
    a runtime, and what `server.start` raises. A file that is changed while it is served ends the server; what it raises
    then is the IntegrityError that names the file.
    """
    check_address(options.host, options.api_keys)
    runtime = choose(options.runtime, environment)
    with prepare(session, text) as prepared, _watch(session, prepared) as watch:
        settings = _settings(session, prepared, options)
        with start(runtime, settings, http_probe(), check=watch.check) as server:
            yield Serving(prepared, runtime, server, settings.ctx_size or DEFAULT_CONTEXT)


@contextmanager
def talk(
    session: Session,
    text: str,
    options: Options,
    environment: Mapping[str, str],
    *,
    wishes: Wishes,
    system: str | None = None,
) -> Iterator[Talk]:
    """Open a conversation with a model, served on a free port of this machine with a key of its own."""
    from lading.chat import Chat  # noqa: PLC0415 - for a conversation only
    from lading.http import Client, Patience  # noqa: PLC0415 - as above

    key = secrets.token_urlsafe(24)
    private = Options(
        port=0,
        api_keys=(key,),
        ctx_size=options.ctx_size,
        threads=options.threads,
        n_gpu_layers=options.n_gpu_layers,
        runtime=options.runtime,
        sampling=options.sampling,
    )
    with serve(session, text, private, environment) as serving:
        template = serving.prepared.template is not None or serving.prepared.facts.chat_template is not None
        # A long prompt on a slow machine takes minutes before its first token, and asking twice would not help.
        client = Client(patience=Patience(tries=1, read=_ANSWER_SECONDS))
        chat = Chat(client, serving.server.endpoint.url, template=template, api_key=key, system=system, wishes=wishes)
        yield Talk(serving, chat)


def serve_detached(
    session: Session, text: str, options: Options, environment: Mapping[str, str], *, name: str | None = None
) -> ServerRecord:
    """Start a server in the background and return its record once it answers; `name` None makes one of the model's."""
    check_address(options.host, options.api_keys)
    runtime = choose(options.runtime, environment)
    with prepare(session, text) as prepared:
        return detach(
            Launch(
                folder=_folder(session),
                name=name or name_for(prepared.name),
                reference=prepared.name,
                digest=str(prepared.digest or ""),
                runtime=runtime.name,
                settings=_settings(session, prepared, options),
                environment=dict(environment),
                store=session.store.root if prepared.held else None,
                held=tuple(prepared.held),
                files=prepared.files,
            )
        )


def servers(session: Session) -> tuple[ServerRecord, ...]:
    """Return the living servers in the background, oldest first."""
    return living_servers(_folder(session))


def stop_server(session: Session, name: str) -> ServerRecord:
    """End a server in the background, with force if it must be; raises NotFoundError."""
    return stop(_folder(session), name)


def server_logs(session: Session, name: str, *, follow: bool = False) -> Iterator[bytes]:
    """Yield the log of a server in the background, dead or alive; `follow` goes on until it ends."""
    return logs(_folder(session), name, follow=follow)


def _watch(session: Session, prepared: Prepared) -> Watch | FileWatch:
    return session.store.watch(prepared.held) if prepared.held else FileWatch(prepared.files)


def _folder(session: Session) -> Path:
    return session.config.state / "servers"


def _settings(session: Session, prepared: Prepared, options: Options) -> ServeSettings:
    wished = from_artifact(prepared.parameters)
    if wished.ignored:
        names = ", ".join(wished.ignored)
        session.reporter.emit(Noted(f"the model asks for settings that it may not decide: {names}", warning=True))
    return ServeSettings(
        model=prepared.weights,
        mmproj=prepared.projector,
        chat_template=prepared.template,
        host=options.host,
        port=options.port,
        api_keys=options.api_keys,
        ctx_size=_context(prepared, options, wished),
        threads=options.threads,
        n_gpu_layers=options.n_gpu_layers,
        alias=options.alias or prepared.name,
        embeddings=options.embeddings,
        pooling=_pooling(prepared) if options.embeddings else None,
        sampling=merged(options.sampling, wished.sampling),
    )


def _pooling(prepared: Prepared) -> str | None:
    # A model that names no pooling was made to generate; without one llama.cpp refuses it embeddings.
    named = f"{prepared.facts.architecture}.pooling_type" in prepared.facts.metadata
    return None if named else "mean"


def _context(prepared: Prepared, options: Options, wished: ArtifactSettings) -> int:
    if options.ctx_size or wished.ctx_size:
        return options.ctx_size or wished.ctx_size or DEFAULT_CONTEXT
    return min(prepared.facts.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
