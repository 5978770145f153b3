from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lading import config
from lading.errors import FormatError, UsageError
from lading.reference import Oci

if TYPE_CHECKING:
    from pathlib import Path


def _load(home: Path, *, uid: int = 1000, **environ: str) -> config.Config:
    return config.load({"HOME": str(home), **environ}, uid=uid)


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /etc of the test's own."""
    folder = tmp_path / "etc"
    monkeypatch.setattr(config, "_SYSTEM", folder)
    return folder


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_any_setting_everything_lies_in_the_home(tmp_path: Path) -> None:
    settings = _load(tmp_path)
    assert settings.store == tmp_path / ".local/share/lading"
    assert settings.state == tmp_path / ".local/state/lading"
    assert settings.folder == tmp_path / ".config/lading"
    assert settings.transport == "ollama"
    assert settings.offline is False
    assert settings.api_key is None


def test_root_keeps_its_models_with_the_system(tmp_path: Path) -> None:
    assert str(_load(tmp_path, uid=0).store) == "/var/lib/lading"
    assert _load(tmp_path, uid=0, XDG_DATA_HOME="/data").store == type(tmp_path)("/data/lading")


def test_variables_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    _write(tmp_path / ".config/lading/config.toml", 'store = "~/models"\ntransport = "hf"\n')
    assert _load(tmp_path).store == tmp_path / "models"
    assert _load(tmp_path).transport == "hf"
    both = _load(tmp_path, LADING_STORE="/srv/models", LADING_TRANSPORT="oci", LADING_STATE="~/run")
    assert str(both.store) == "/srv/models"
    assert both.transport == "oci"
    assert both.state == tmp_path / "run"


def test_xdg_folders_are_used_and_relative_ones_ignored(tmp_path: Path) -> None:
    settings = _load(tmp_path, XDG_DATA_HOME="/d", XDG_STATE_HOME="relative", XDG_CONFIG_HOME="/c")
    assert (str(settings.store), str(settings.folder)) == ("/d/lading", "/c/lading")
    assert settings.state == tmp_path / ".local/state/lading"


@pytest.mark.parametrize("text", ["store = ", "store = 5", "sotre = 'x'", "store = '\xff'", "[" * 5000])
def test_a_broken_config_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / ".config/lading/config.toml"
    file.parent.mkdir(parents=True)
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=r"config\.toml"):
        _load(tmp_path)


def test_a_broken_config_file_that_is_not_needed_is_not_read(tmp_path: Path) -> None:
    _write(tmp_path / ".config/lading/config.toml", "broken")
    assert _load(tmp_path, LADING_STORE="/s", LADING_TRANSPORT="hf").transport == "hf"


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("TRUE", True), ("on", True), ("0", False), ("", False), ("no", False)]
)
def test_offline_is_a_word_for_yes_or_no(tmp_path: Path, value: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert _load(tmp_path, LADING_OFFLINE=value).offline is expected
    with pytest.raises(UsageError, match="LADING_OFFLINE"):
        _load(tmp_path, LADING_OFFLINE="maybe")


def test_a_hubs_address_that_is_no_url_names_its_variable(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^HF_ENDPOINT is no http or https URL"):
        _load(tmp_path, HF_ENDPOINT="foo")
    with pytest.raises(UsageError, match=r"^MODELSCOPE_ENDPOINT is no http or https URL"):
        _load(tmp_path, MODELSCOPE_ENDPOINT="foo")


def test_no_secret_shows_in_a_printed_config(tmp_path: Path) -> None:
    settings = _load(tmp_path, LADING_API_KEY="sk-canary", HTTPS_PROXY="http://sam:canary@proxy:3128")
    assert settings.api_key == "sk-canary"
    assert "canary" not in repr(settings)


def test_lower_case_proxies_win_and_a_cgi_header_is_no_proxy(tmp_path: Path) -> None:
    network = _load(tmp_path, HTTP_PROXY="http://upper:1", http_proxy="http://lower:1", HTTPS_PROXY="tls:2").network
    assert network.proxy("http", "a.io", 80) == "http://lower:1"
    assert network.proxy("https", "a.io", 443) == "http://tls:2"
    cgi = _load(tmp_path, HTTP_PROXY="http://evil:1", REQUEST_METHOD="GET", HTTPS_PROXY="http://good:1").network
    assert cgi.proxy("http", "a.io", 80) is None
    assert cgi.proxy("https", "a.io", 443) == "http://good:1"


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "bypassed"),
    [
        ("acme.io", "acme.io", 443, True),
        ("acme.io", "registry.acme.io", 443, True),
        (".acme.io", "registry.acme.io", 443, True),
        ("*.acme.io", "registry.acme.io", 443, True),
        ("ACME.io , other", "acme.io", 443, True),
        ("acme.io", "notacme.io", 443, False),
        ("acme.io:5000", "acme.io", 5000, True),
        ("acme.io:5000", "acme.io", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("1.2.3", "10.1.2.3", 443, False),
        ("junk/99", "10.1.2.3", 443, False),
        ("*", "acme.io", 443, True),
        ("", "localhost", 443, True),
        ("", "127.0.0.1", 443, True),
        ("", "::1", 443, True),
        ("", "acme.io", 443, False),
    ],
)
def test_no_proxy_names_hosts_domains_ports_and_networks(
    tmp_path: Path,
    no_proxy: str,
    host: str,
    port: int,
    bypassed: bool,  # noqa: FBT001 - a table
) -> None:
    network = _load(tmp_path, HTTPS_PROXY="http://proxy:1", NO_PROXY=no_proxy).network
    assert (network.proxy("https", host, port) is None) is bypassed


def test_a_proxy_that_is_not_spoken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="socks5"):
        _load(tmp_path, HTTPS_PROXY="socks5://sam:canary@p:1").network.proxy("https", "a.io", 443)


def test_certificates_of_a_host_are_found_in_dockers_and_containers_folders(tmp_path: Path, system: Path) -> None:
    host = "registry.acme.io:5000"
    ours = _write(tmp_path / ".docker/certs.d" / host / "ca.crt", "")
    theirs = _write(system / "containers/certs.d" / host / "acme.crt", "")
    certificate = _write(system / "docker/certs.d" / host / "client.cert", "")
    key = _write(system / "docker/certs.d" / host / "client.key", "")
    _write(system / "docker/certs.d" / host / "alone.cert", "")
    network = _load(tmp_path).network
    assert network.tls(host) == config.Tls((ours, theirs), (certificate, key))
    assert network.tls("other.io") == config.Tls()
    assert network.tls(f"../certs.d/{host}") == config.Tls()


def test_the_ca_bundle_is_the_one_of_openssl_then_of_requests(tmp_path: Path) -> None:
    assert str(_load(tmp_path, SSL_CERT_FILE="/a", REQUESTS_CA_BUNDLE="/b").network.ca_bundle) == "/a"
    assert str(_load(tmp_path, REQUESTS_CA_BUNDLE="/b").network.ca_bundle) == "/b"
    assert _load(tmp_path).network.ca_bundle is None


def test_auth_files_come_in_podmans_order(tmp_path: Path) -> None:
    files = _load(tmp_path, XDG_RUNTIME_DIR="/run/user/1", DOCKER_CONFIG="/docker").auth_files
    assert [str(file) for file in files] == [
        "/run/user/1/containers/auth.json",
        f"{tmp_path}/.config/containers/auth.json",
        "/docker/config.json",
    ]
    assert _load(tmp_path).auth_files[-1] == tmp_path / ".docker/config.json"
    assert str(_load(tmp_path, uid=5).auth_files[0]) == "/run/containers/5/auth.json"
    assert [str(file) for file in _load(tmp_path, REGISTRY_AUTH_FILE="/only.json").auth_files] == ["/only.json"]


def test_registries_conf_says_what_is_insecure_and_blocked(tmp_path: Path, system: Path) -> None:
    _write(
        system / "containers/registries.conf",
        '[[registry]]\nlocation = "lab.acme.io:5000"\ninsecure = true\n'
        '[[registry]]\nprefix = "lab.acme.io:5000/secret"\nblocked = true\n',
    )
    _write(system / "containers/registries.conf.d/50.conf", '[[registry]]\nprefix = "late.io"\ninsecure = true\n')
    rules = _load(tmp_path).registries()
    assert rules.find(Oci("lab.acme.io:5000", "chat")).insecure
    assert rules.find(Oci("lab.acme.io:5000", "secret/x")).blocked
    assert rules.find(Oci("late.io", "x")).insecure


def test_the_users_registries_conf_replaces_the_systems_and_a_drop_in_overrides(tmp_path: Path, system: Path) -> None:
    _write(system / "containers/registries.conf", '[[registry]]\nlocation = "a.io"\nblocked = true\n')
    _write(tmp_path / ".config/containers/registries.conf", '[[registry]]\nlocation = "b.io"\ninsecure = true\n')
    _write(tmp_path / ".config/containers/registries.conf.d/1.conf", '[[registry]]\nlocation = "b.io"\n')
    rules = _load(tmp_path).registries()
    assert not rules.find(Oci("a.io", "x")).blocked
    assert not rules.find(Oci("b.io", "x")).insecure
    only = _write(tmp_path / "only.conf", '[[registry]]\nlocation = "c.io"\ninsecure = true\n')
    assert _load(tmp_path, CONTAINERS_REGISTRIES_CONF=str(only)).registries().find(Oci("c.io", "x")).insecure


def test_a_drop_in_takes_the_mirrors_of_a_prefix_away_too(tmp_path: Path, system: Path) -> None:
    mirrored = '[[registry]]\nlocation = "a.io"\n[[registry.mirror]]\nlocation = "m.io"\n'
    _write(system / "containers/registries.conf", mirrored)
    assert _load(tmp_path).registries().find(Oci("a.io", "x")).mirrors
    _write(tmp_path / ".config/containers/registries.conf.d/1.conf", '[[registry]]\nlocation = "a.io"\n')
    assert not _load(tmp_path).registries().find(Oci("a.io", "x")).mirrors


def test_a_registries_conf_that_is_no_toml_is_named(tmp_path: Path) -> None:
    file = _write(tmp_path / "broken.conf", "[")
    with pytest.raises(FormatError, match=r"broken\.conf"):
        _load(tmp_path, CONTAINERS_REGISTRIES_CONF=str(file)).registries()


def test_short_names_of_the_user_win_over_the_systems_over_ramalamas(tmp_path: Path, system: Path) -> None:
    _write(tmp_path / ".config/lading/shortnames.toml", '[shortnames]\nstory = "oci://user.io/story"\n')
    _write(system / "lading/shortnames.toml", '[shortnames]\nstory = "oci://system.io/story"\nchat = "hf://a/b"\n')
    _write(system / "ramalama/shortnames.conf", '[shortnames]\n  "chat" = "hf://c/d"\n  "tiny" = "ollama://tiny"\n')
    assert _load(tmp_path).short_names() == {
        "story": "oci://user.io/story",
        "chat": "hf://a/b",
        "tiny": "ollama://tiny",
    }


def test_broken_short_names_are_named(tmp_path: Path) -> None:
    _write(tmp_path / ".config/lading/shortnames.toml", "[shortnames]\nstory = 5\n")
    with pytest.raises(FormatError, match=r"shortnames\.toml"):
        _load(tmp_path).short_names()


def test_a_settings_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / ".config/lading"
    folder.mkdir(parents=True)
    (folder / "config.toml").symlink_to("/dev/zero")
    with pytest.raises(FormatError, match="larger than 1 MiB"):
        _load(tmp_path)


def test_loading_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from lading import config; config.load({'HOME': sys.argv[1]});"
        "print([m for m in ('tomllib','urllib3','ssl','json','subprocess','msgspec') if m in sys.modules])"
    )
    path = ":".join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path},
    )
    assert done.stdout.strip() == "[]"
