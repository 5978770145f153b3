"""`lading serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lading import ui
from lading.cli.app import App, common, json_option, networked, print_json
from lading.cli.serving import environment, introduce, make_options, read_keys, runtime_options

if TYPE_CHECKING:
    from lading.api import Options
    from lading.api.session import Session


@click.command("serve", short_help="Serve a model over the OpenAI API.")
@click.argument("reference", metavar="REF")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "-p", "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 picks a free one."
)
@click.option("--api-key-file", type=click.Path(path_type=Path), metavar="FILE", help="Keys to ask for, a line each.")
@click.option("--api-key", metavar="KEY", help="Key to ask for; it shows in the process list.")
@click.option(
    "-np", "--parallel", type=click.IntRange(1, 256), default=1, show_default=True, help="Requests at once, in slots."
)
@click.option(
    "--cache-ram", type=click.IntRange(min=0), metavar="MIB", help="Memory for prompts seen before; 0 is none."
)
@click.option("--alias", metavar="NAME", help="Name of the model in the API.")
@click.option("--embeddings", is_flag=True, help="Serve embeddings.")
@click.option("-d", "--detach", is_flag=True, help="Serve in the background; see ps, logs, stop.")
@click.option("--name", metavar="NAME", help="Name of the server in the background.")
@json_option
@runtime_options
@networked
@common
def command(
    app: App,
    reference: str,
    *,
    host: str,
    port: int,
    api_key_file: Path | None,
    api_key: str | None,
    parallel: int,
    cache_ram: int | None,
    alias: str | None,
    embeddings: bool,
    detach: bool,
    name: str | None,
    as_json: bool,
    chosen: dict[str, Any],
    offline: bool,
    insecure: bool,
) -> None:
    """Serve the model REF over the OpenAI API until Ctrl-C; it is pulled if it is not in the store.

    Beyond this machine it is served only with a key: --api-key-file FILE, or LADING_API_KEY.
    """
    if name and not detach:
        msg = "--name is for a server in the background (--detach)"
        raise click.UsageError(msg)
    if as_json and not detach:
        msg = "--json tells of a server in the background (--detach)"
        raise click.UsageError(msg)
    with app.session(offline=offline, insecure=insecure) as session:
        keys = read_keys(api_key_file, api_key, session.config.api_key)
        options = make_options(
            chosen,
            host=host,
            port=port,
            api_keys=keys,
            parallel=parallel,
            cache_ram=cache_ram,
            alias=alias,
            embeddings=embeddings,
        )
        if detach:
            _background(session, reference, options, name, as_json=as_json)
        else:
            _foreground(app, session, reference, options)


def _background(session: Session, reference: str, options: Options, name: str | None, *, as_json: bool) -> None:
    from lading.api import serve_detached  # noqa: PLC0415 - the library is loaded when the command runs

    record = serve_detached(session, reference, options, environment(), name=name)
    ui.settle(session.reporter)
    if as_json:
        print_json(record)
        return
    click.echo(f"serving  {record.name}   {record.url}   {record.runtime} {record.runtime_version}   pid {record.pid}")


def _foreground(app: App, session: Session, reference: str, options: Options) -> None:
    from lading.api import serve  # noqa: PLC0415 - as above

    with serve(session, reference, options, environment()) as serving:
        ui.settle(session.reporter)
        app.say(introduce(serving))
        click.echo(f"serving  {serving.prepared.name}   {serving.server.endpoint.url}")
        try:
            serving.server.wait()
        except KeyboardInterrupt:
            app.say("stopped")
