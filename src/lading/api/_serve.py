"""Run and serve: a prepared model, a runtime chosen for it, and a server or a conversation."""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lading.api._fitting import Wanted, candidate_of, deviation, fitted, remarks
from lading.api._machine import machine_here
from lading.api._prepare import prepare
from lading.api._selection import Selection
from lading.errors import UnfitError
from lading.events import Noted
from lading.fit import DEFAULT_CONTEXT
from lading.runtime import ServeSettings, choose, from_artifact, merged
from lading.runtime.embedded import NAME as EMBEDDED
from lading.runtime.settings import Sampling
from lading.server import FileWatch, Launch, allocated, check_address, detach, http_probe, logs, name_for, start, stop
from lading.server import servers as living_servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lading.api._fitting import Fitted
    from lading.api._prepare import Prepared
    from lading.api.session import Session
    from lading.chat import Chat, Wishes
    from lading.runtime import ArtifactSettings, Runtime
    from lading.server import Allocated, Server, ServerRecord
    from lading.store import Watch

_ANSWER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose for a server; None leaves it to the artifact, the model and the machine.

    `cache_ram` is in MiB. Without `fit` nothing is chosen by what fits, and nothing is refused. `quant` and `platform` say
    which of several variants to take where a reference names several.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_keys: tuple[str, ...] = ()
    ctx_size: int | None = None
    threads: int | None = None
    n_gpu_layers: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    cache_ram: int | None = None
    parallel: int = 1
    fit: bool = True
    alias: str | None = None
    embeddings: bool = False
    runtime: str | None = None
    quant: str | None = None
    platform: str | None = None
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def wanted(self) -> Wanted:
        """What of it an estimate decides where it is None."""
        return Wanted(
            ctx_size=self.ctx_size,
            gpu_layers=self.n_gpu_layers,
            cache_type_k=self.cache_type_k,
            cache_type_v=self.cache_type_v,
            cache_ram=self.cache_ram,
            parallel=self.parallel,
            embeddings=self.embeddings,
        )

    def selection(self, runtime: Runtime) -> Selection:
        """Return which of several variants is to be run with a runtime."""
        return Selection(self.quant, self.platform, self.wanted, runtime, self.fit)


@dataclass(frozen=True, slots=True)
class Serving:
    """A model that is being served in the foreground; `fitted` says what it needs, None where that is not known."""

    prepared: Prepared
    runtime: Runtime
    server: Server
    ctx_size: int
    fitted: Fitted | None = None


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
    with prepare(session, text, options.selection(runtime)) as prepared, _watch(session, prepared) as watch:
        settings, plan = _settings(session, prepared, options, runtime)
        with start(runtime, settings, http_probe(), check=watch.check) as server:
            _compare(session, plan, server.allocated())
            yield Serving(prepared, runtime, server, settings.ctx_size or DEFAULT_CONTEXT, plan)


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
    # One conversation is kept in its slot; prompts seen before have nobody to come from.
    private = replace(options, host="127.0.0.1", port=0, api_keys=(key,), cache_ram=0, parallel=1, embeddings=False)
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
    with prepare(session, text, options.selection(runtime)) as prepared:
        settings, plan = _settings(session, prepared, options, runtime)
        record = detach(
            Launch(
                folder=_folder(session),
                name=name or name_for(prepared.name),
                reference=prepared.name,
                digest=str(prepared.digest or ""),
                runtime=runtime.name,
                settings=settings,
                environment=dict(environment),
                store=session.store.root if prepared.held else None,
                held=tuple(prepared.held),
                files=prepared.files,
            )
        )
        _compare(session, plan, allocated(_folder(session), record.name))
        return record


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


def _settings(
    session: Session, prepared: Prepared, options: Options, runtime: Runtime
) -> tuple[ServeSettings, Fitted | None]:
    wished = from_artifact(prepared.parameters)
    if wished.ignored:
        names = ", ".join(wished.ignored)
        session.reporter.emit(Noted(f"the model asks for settings that it may not decide: {names}", warning=True))
    settings = ServeSettings(
        model=prepared.weights,
        mmproj=prepared.projector,
        chat_template=prepared.template,
        host=options.host,
        port=options.port,
        api_keys=options.api_keys,
        ctx_size=_context(prepared, options, wished),
        threads=options.threads,
        n_gpu_layers=options.n_gpu_layers,
        cache_type_k=options.cache_type_k or "f16",
        cache_type_v=options.cache_type_v or "f16",
        cache_ram=options.cache_ram or 0,
        parallel=options.parallel,
        alias=options.alias or prepared.name,
        embeddings=options.embeddings,
        pooling=_pooling(prepared) if options.embeddings else None,
        sampling=merged(options.sampling, wished.sampling),
    )
    plan = _fitted(session, prepared, options, wished, runtime) if options.fit else None
    if plan is None:
        return settings, None
    found = plan.row.settings
    layers = plan.row.gpu_layers if found.devices else None
    # The library takes no rule on experts, and places what fits by itself where it is told nothing.
    experts = 0 if runtime.name == EMBEDDED else found.n_cpu_moe
    chosen = replace(
        settings,
        ctx_size=found.ctx_size,
        n_gpu_layers=layers if options.n_gpu_layers is None and experts == found.n_cpu_moe else options.n_gpu_layers,
        cache_type_k=found.cache_type_k,
        cache_type_v=found.cache_type_v,
        cache_ram=plan.cache_ram,
        repack=found.repack,
        n_cpu_moe=experts,
    )
    return chosen, plan


def _fitted(
    session: Session, prepared: Prepared, options: Options, wished: ArtifactSettings, runtime: Runtime
) -> Fitted | None:
    size = prepared.projector.stat().st_size if prepared.projector else None
    candidate = candidate_of(prepared.name, prepared.facts, size)
    if candidate is None:
        return None
    machine, wanted = machine_here(session, runtime), options.wanted
    plan = None
    if wanted.ctx_size is None and wished.ctx_size:
        with suppress(UnfitError):
            plan = fitted(session, candidate, machine, replace(wanted, ctx_size=wished.ctx_size))
        if plan is None:
            text = f"the model asks for a context of {wished.ctx_size:,}, which does not fit"
            session.reporter.emit(Noted(text))
    plan = plan or fitted(session, candidate, machine, wanted)
    for sentence in remarks(plan, wanted) if plan else ():
        session.reporter.emit(Noted(sentence))
    return plan


def _compare(session: Session, plan: Fitted | None, taken: Allocated | None) -> None:
    if plan and (sentence := deviation(plan, taken)):
        session.reporter.emit(Noted(sentence))


def _pooling(prepared: Prepared) -> str | None:
    # A model that names no pooling was made to generate; without one llama.cpp refuses it embeddings.
    named = f"{prepared.facts.architecture}.pooling_type" in prepared.facts.metadata
    return None if named else "mean"


def _context(prepared: Prepared, options: Options, wished: ArtifactSettings) -> int:
    if options.ctx_size or wished.ctx_size:
        return options.ctx_size or wished.ctx_size or DEFAULT_CONTEXT
    return min(prepared.facts.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
