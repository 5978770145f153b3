"""What the user and the machine have set; the only module that reads the environment, and only as a mapping it is given.

`load` is cheap: it touches one file (`config.toml`), and only if it is there and needed. All else
(registries.conf, short names, certificates of a host) is read when it is asked for.
"""

from __future__ import annotations

import ipaddress
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lading.errors import AccessDeniedError, FormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lading.registries_conf import Registries, RegistryRule

DEFAULT_TRANSPORT = "ollama"
_TRANSPORTS = ("ollama", "hf", "huggingface", "ms", "modelscope", "oci", "docker")
_MAX_FILE = 1024 * 1024
_LAST_SECOND = 253_402_300_799  # the end of the year 9999, the last that RFC 3339 can write
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})
_SYSTEM = Path("/etc")


@dataclass(frozen=True, slots=True)
class Tls:
    """Extra trust for one host: CA files to add, and (certificate, key) to show (docker's certs.d)."""

    authorities: tuple[Path, ...] = ()
    client: tuple[Path, Path] | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """How to reach other machines. `proxies` maps a scheme to a proxy's URL, which may hold a password."""

    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    no_proxy: tuple[str, ...] = ()
    ca_bundle: Path | None = None
    cert_folders: tuple[Path, ...] = ()

    def proxy(self, scheme: str, host: str, port: int) -> str | None:
        """Return the proxy for a host, or None; loopback never goes through one.

        An entry of no_proxy is `*`, a name with its sub-domains, a name or address with a
        port, an address, or a network (10.0.0.0/8).
        """
        url = self.proxies.get(scheme)
        if not url or host == "localhost" or any(_bypasses(entry, host, port) for entry in self.no_proxy):
            return None
        address = _address(host)
        if address is not None and address.is_loopback:
            return None
        given = url if "://" in url else f"http://{url}"
        if not given.startswith(("http://", "https://")):
            msg = f"the proxy for {scheme} is a {given.partition(':')[0]} proxy"
            raise UsageError(msg, hint="http and https proxies are spoken")
        return given

    def tls(self, authority: str) -> Tls:
        """Return what `<folder>/<authority>/` holds: *.crt are CAs, *.cert with *.key is our certificate."""
        if "/" in authority or authority.startswith("."):
            return Tls()
        authorities: list[Path] = []
        client: tuple[Path, Path] | None = None
        for folder in self.cert_folders:
            try:
                files = sorted((folder / authority).iterdir())
            except OSError:
                continue
            authorities += [file for file in files if file.suffix == ".crt"]
            for file in files:
                key = file.with_suffix(".key")
                if client is None and file.suffix == ".cert" and key in files:
                    client = (file, key)
        return Tls(tuple(authorities), client)


@dataclass(frozen=True, slots=True)
class Hubs:
    """Where the hubs are, and our tokens for them; None is the hub's public address, or no token.

    `hf_token_files` stand in the order in which they win when `hf_token` is None.
    """

    hf_endpoint: str | None = None
    hf_token: str | None = field(default=None, repr=False)
    hf_token_files: tuple[Path, ...] = ()
    ms_endpoint: str | None = None
    ms_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ConverterSettings:
    """Where llama.cpp's converter is kept, and where it comes from.

    `folder` is ours to make and fill. `python` is an interpreter of the user's that has what the converter imports;
    None makes one in `folder`. `index` is a further package index for pip, such as one with CPU builds of torch.
    """

    folder: Path
    python: Path | None = None
    index: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one invocation. Paths are absolute; none of them need exist.

    `auth_files` and `short_name_files` stand in the order in which they win;
    `registries_files` are files and folders in the order in which later ones override.
    `memory` and `devices` are what a model may have of this machine, as people write it, None for what there is.
    `created` is the time to write into artifacts (RFC 3339), None to write none.
    """

    home: Path
    folder: Path
    store: Path
    state: Path
    cache: Path = Path()
    transport: str = DEFAULT_TRANSPORT
    offline: bool = False
    api_key: str | None = field(default=None, repr=False)
    created: str | None = None
    hubs: Hubs = field(default_factory=Hubs)
    network: Network = field(default_factory=Network)
    auth_files: tuple[Path, ...] = ()
    registries_files: tuple[Path, ...] = ()
    short_name_files: tuple[Path, ...] = ()
    convert_python: str | None = None
    torch_index: str | None = None
    memory: str | None = None
    devices: str | None = None

    def converter(self) -> ConverterSettings:
        """Return the converter's settings; raises FormatError for a broken config.toml."""
        file = {} if self.convert_python and self.torch_index else _settings(self.folder / "config.toml")
        python = self.convert_python or file.get("convert_python")
        return ConverterSettings(
            folder=self.cache,
            python=_absolute(python, self.home) if python else None,
            index=self.torch_index or file.get("torch_index"),
        )

    def registries(self) -> Registries:
        """Read registries.conf and its drop-ins; raises FormatError naming the file that is wrong."""
        from lading.registries_conf import Registries, read_rules  # noqa: PLC0415 - for those who reach a registry

        rules: dict[str, RegistryRule] = {}
        for file in _files(self.registries_files):
            rules.update((rule.prefix, rule) for rule in read_rules(_read_toml(file), file))
        return Registries(tuple(rules.values()))

    def short_names(self) -> dict[str, str]:
        """Read the short names: name to reference; raises FormatError naming the file that is wrong."""
        names: dict[str, str] = {}
        for file in reversed(self.short_name_files):
            table = _read_toml(file).get("shortnames", {})
            if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
                msg = f"[shortnames] in {file} is not a table of names to references"
                raise FormatError(msg, hint='a line looks like: story = "oci://registry.acme.io/story:1"')
            names.update(table)
        return names


def load(environ: Mapping[str, str], *, uid: int | None = None) -> Config:
    """Gather the settings from an environment and config.toml.

    `uid` is whose settings they are (None: this process's). Raises UsageError for a variable
    that makes no sense, FormatError for a broken config.toml.
    """
    user = os.getuid() if uid is None else uid
    home = Path(environ["HOME"]) if environ.get("HOME") else _home_of(user)
    config_home = _xdg(environ, "XDG_CONFIG_HOME", home / ".config")
    folder = config_home / "lading"
    store, transport = environ.get("LADING_STORE"), environ.get("LADING_TRANSPORT")
    if not (store and transport):
        settings = _settings(folder / "config.toml")
        store = store or settings.get("store")
        transport = transport or settings.get("transport")
    if transport and transport not in _TRANSPORTS:
        msg = f"the default transport `{transport[:40]}` is none that is known here"
        raise UsageError(msg, hint=f"LADING_TRANSPORT or `transport` in config.toml is one of {', '.join(_TRANSPORTS)}")
    default_store = _xdg(environ, "XDG_DATA_HOME", home / ".local/share" if user else Path("/var/lib")) / "lading"
    return Config(
        home=home,
        folder=folder,
        store=_absolute(store, home) if store else default_store,
        state=_absolute(environ["LADING_STATE"], home)
        if environ.get("LADING_STATE")
        else _xdg(environ, "XDG_STATE_HOME", home / ".local/state") / "lading",
        cache=_absolute(environ["LADING_CACHE"], home)
        if environ.get("LADING_CACHE")
        else _xdg(environ, "XDG_CACHE_HOME", home / ".cache") / "lading",
        transport=transport or DEFAULT_TRANSPORT,
        offline=_flag(environ, "LADING_OFFLINE"),
        api_key=environ.get("LADING_API_KEY") or None,
        created=epoch(environ.get("SOURCE_DATE_EPOCH")),
        hubs=_hubs(environ, home),
        network=_network(environ, home, config_home),
        auth_files=_auth_files(environ, home, config_home, user),
        registries_files=_registries_files(environ, config_home),
        short_name_files=(
            folder / "shortnames.toml",
            _SYSTEM / "lading/shortnames.toml",
            config_home / "ramalama/shortnames.conf",
            _SYSTEM / "ramalama/shortnames.conf",
            Path("/usr/share/ramalama/shortnames.conf"),
        ),
        convert_python=environ.get("LADING_CONVERT_PYTHON") or None,
        torch_index=environ.get("LADING_TORCH_INDEX") or None,
        memory=environ.get("LADING_MEMORY") or None,
        devices=environ.get("LADING_DEVICES") or None,
    )


def _network(environ: Mapping[str, str], home: Path, config_home: Path) -> Network:
    proxies = {}
    for scheme in ("http", "https"):
        value = environ.get(f"{scheme}_proxy")
        # Under CGI a client's `Proxy:` header arrives as HTTP_PROXY (CVE-2016-5388, "httpoxy").
        if not value and not (scheme == "http" and "REQUEST_METHOD" in environ):
            value = environ.get(f"{scheme.upper()}_PROXY")
        if value:
            proxies[scheme] = value
    bundle = environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return Network(
        proxies=proxies,
        no_proxy=tuple(no_proxy.replace(",", " ").lower().split()),
        ca_bundle=_absolute(bundle, home) if bundle else None,
        cert_folders=(
            config_home / "containers/certs.d",
            home / ".docker/certs.d",
            _SYSTEM / "containers/certs.d",
            _SYSTEM / "docker/certs.d",
        ),
    )


def _hubs(environ: Mapping[str, str], home: Path) -> Hubs:
    # The names that the hubs' own clients read. ModelScope's saved login is a pickle and is not.
    cache = _xdg(environ, "XDG_CACHE_HOME", home / ".cache")
    hf_home = _absolute(environ["HF_HOME"], home) if environ.get("HF_HOME") else cache / "huggingface"
    named = environ.get("HF_TOKEN_PATH")
    token = environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN") or ""
    return Hubs(
        hf_endpoint=_endpoint(environ, "HF_ENDPOINT"),
        hf_token=token.strip() or None,
        hf_token_files=(_absolute(named, home),) if named else (hf_home / "token",),
        ms_endpoint=_endpoint(environ, "MODELSCOPE_ENDPOINT") or environ.get("MODELSCOPE_DOMAIN") or None,
        ms_token=(environ.get("MODELSCOPE_API_TOKEN") or "").strip() or None,
    )


def _endpoint(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name) or None
    if value and not value.startswith(("http://", "https://")):
        msg = f"{name} is no http or https URL"
        raise UsageError(msg, hint="a hub's address is like https://hub.example.org")
    return value


def _auth_files(environ: Mapping[str, str], home: Path, config_home: Path, user: int) -> tuple[Path, ...]:
    # containers-auth.json(5): a file named explicitly is the only one.
    if environ.get("REGISTRY_AUTH_FILE"):
        return (_absolute(environ["REGISTRY_AUTH_FILE"], home),)
    runtime = environ.get("XDG_RUNTIME_DIR")
    docker = _absolute(environ["DOCKER_CONFIG"], home) if environ.get("DOCKER_CONFIG") else home / ".docker"
    # Without a runtime folder (root, mostly) podman and skopeo use one of their own.
    first = Path(runtime) / "containers" if runtime else Path("/run/containers") / str(user)
    return (first / "auth.json", config_home / "containers/auth.json", docker / "config.json")


def _registries_files(environ: Mapping[str, str], config_home: Path) -> tuple[Path, ...]:
    if environ.get("CONTAINERS_REGISTRIES_CONF"):
        return (Path(environ["CONTAINERS_REGISTRIES_CONF"]).absolute(),)
    user, system = config_home / "containers", _SYSTEM / "containers"
    main = user if (user / "registries.conf").is_file() else system
    return (main / "registries.conf", system / "registries.conf.d", user / "registries.conf.d")


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.conf"))
        else:
            yield path


def _settings(file: Path) -> dict[str, str]:
    known = ("store", "transport", "convert_python", "torch_index")
    settings: dict[str, str] = {}
    for key, value in _read_toml(file).items():
        if key not in known or not isinstance(value, str):
            msg = f"{file}: `{key}` is " + ("no setting" if key not in known else "not a string")
            raise FormatError(msg, hint=f"settings are {', '.join(known)}, all of them strings")
        settings[key] = value
    return settings


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise AccessDeniedError(msg) from error
    if len(data) > _MAX_FILE:
        msg = f"{file} is larger than 1 MiB"
        raise FormatError(msg, hint="no settings file is that long")
    import tomllib  # noqa: PLC0415 - 5 ms that most invocations never need

    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        msg = f"{file} is not TOML: {error}"
        raise FormatError(msg) from error


def _flag(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "").strip().lower()
    if value not in _TRUE | _FALSE:
        msg = f"{name} is {value[:40]!r}"
        raise UsageError(msg, hint="1 or 0, true or false, yes or no, on or off")
    return value in _TRUE


def epoch(text: str | None) -> str | None:
    """Return what SOURCE_DATE_EPOCH says, in RFC 3339: seconds since 1970 (https://reproducible-builds.org); raises UsageError."""
    if not text:
        return None
    if not text.isdecimal() or int(text) > _LAST_SECOND:
        msg = f"SOURCE_DATE_EPOCH is {text[:40]!r}, which is no number of seconds"
        raise UsageError(msg)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(text)))


def _xdg(environ: Mapping[str, str], name: str, default: Path) -> Path:
    # XDG base directory specification: a relative path is invalid and must be ignored.
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else default


def _absolute(text: str, home: Path) -> Path:
    return home / text[2:] if text.startswith("~/") else Path(text).absolute()


def _home_of(uid: int) -> Path:
    import pwd  # noqa: PLC0415 - only where HOME is not set

    try:
        return Path(pwd.getpwuid(uid).pw_dir)
    except KeyError as error:
        msg = f"user {uid} has no home folder"
        raise UsageError(msg, hint="set HOME") from error


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bypasses(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name = entry.removesuffix(f":{port}").strip("[]").removeprefix("*").removeprefix(".")
    return bool(name) and (host == name or (address is None and host.endswith(f".{name}")))
