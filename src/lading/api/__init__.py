"""The library: one function for each verb, working on a `Session`.

    from lading import api

    session = api.Session(api.load_config(os.environ))
    api.pull(session, "registry.example.org/team/chat:3")
    with api.serve(session, "registry.example.org/team/chat:3", api.Options(port=0), os.environ) as serving:
        print(serving.server.endpoint.url)

Failures are the errors of `lading.errors`; progress goes to the session's reporter. Names are
loaded when they are first used, so that a program pays only for the verbs it calls.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lading.api._anatomy import Node, config_bytes, manifest_bytes, tree
    from lading.api._build import Recipe, build
    from lading.api._build_output import check_wishes, hand_over, write_out
    from lading.api._copy import copy
    from lading.api._deliver import Wish
    from lading.api._fit import Fitting, Weighed, fit
    from lading.api._fit_document import FitDocument
    from lading.api._given import given
    from lading.api._info import InfoDocument, info
    from lading.api._inspect import inspect
    from lading.api._lint import Linted, lint
    from lading.api._load import load
    from lading.api._login import login, logout
    from lading.api._make import convert, imatrix, quantize
    from lading.api._pack import pack
    from lading.api._prepare import Prepared, prepare
    from lading.api._pull import Way, pull
    from lading.api._push import push
    from lading.api._repair import repair
    from lading.api._save import save
    from lading.api._selection import Selection
    from lading.api._serve import (
        Options,
        Serving,
        Talk,
        serve,
        serve_detached,
        server_logs,
        servers,
        stop_server,
        talk,
    )
    from lading.api.catalog import list_models, prune, remove, tag, verify
    from lading.api.documents import FactsDocument, ModelDocument, PartDocument
    from lading.api.results import (
        Built,
        Delivered,
        DeliveredForm,
        Inspection,
        Mended,
        PackedFile,
        PackResult,
        Pulled,
        Pushed,
        Repaired,
        Saved,
        SavedModel,
        Unmended,
    )
    from lading.api.session import Session
    from lading.config import Config
    from lading.config import load as load_config
    from lading.package import Given

_PLACES = {
    "lading.api.catalog": ("list_models", "prune", "remove", "tag", "verify"),
    "lading.api.documents": ("FactsDocument", "ModelDocument", "PartDocument"),
    "lading.api._anatomy": ("Node", "config_bytes", "manifest_bytes", "tree"),
    "lading.api._build": ("Recipe", "build"),
    "lading.api._build_output": ("check_wishes", "hand_over", "write_out"),
    "lading.api._copy": ("copy",),
    "lading.api._deliver": ("Wish",),
    "lading.api._fit": ("Fitting", "Weighed", "fit"),
    "lading.api._fit_document": ("FitDocument",),
    "lading.api._given": ("given",),
    "lading.api._info": ("InfoDocument", "info"),
    "lading.api._inspect": ("inspect",),
    "lading.api._load": ("load",),
    "lading.api._lint": ("Linted", "lint"),
    "lading.api._login": ("login", "logout"),
    "lading.api._make": ("convert", "imatrix", "quantize"),
    "lading.api._pack": ("pack",),
    "lading.api._prepare": ("Prepared", "prepare"),
    "lading.api._pull": ("Way", "pull"),
    "lading.api._push": ("push",),
    "lading.api._repair": ("repair",),
    "lading.api._save": ("save",),
    "lading.api._selection": ("Selection",),
    "lading.api.results": (
        "Built",
        "Delivered",
        "DeliveredForm",
        "Inspection",
        "Mended",
        "PackResult",
        "PackedFile",
        "Pulled",
        "Pushed",
        "Repaired",
        "Saved",
        "SavedModel",
        "Unmended",
    ),
    "lading.api._serve": (
        "Options",
        "Serving",
        "Talk",
        "serve",
        "serve_detached",
        "server_logs",
        "servers",
        "stop_server",
        "talk",
    ),
    "lading.api.session": ("Session",),
    "lading.config": ("Config", "load_config"),
    "lading.package": ("Given",),
}
_HOME = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Built",
    "Config",
    "Delivered",
    "DeliveredForm",
    "FactsDocument",
    "FitDocument",
    "Fitting",
    "Given",
    "InfoDocument",
    "Inspection",
    "Linted",
    "Mended",
    "ModelDocument",
    "Node",
    "Options",
    "PackResult",
    "PackedFile",
    "PartDocument",
    "Prepared",
    "Pulled",
    "Pushed",
    "Recipe",
    "Repaired",
    "Saved",
    "SavedModel",
    "Selection",
    "Serving",
    "Session",
    "Talk",
    "Unmended",
    "Way",
    "Weighed",
    "Wish",
    "build",
    "check_wishes",
    "config_bytes",
    "convert",
    "copy",
    "fit",
    "given",
    "hand_over",
    "imatrix",
    "info",
    "inspect",
    "lint",
    "list_models",
    "load",
    "load_config",
    "login",
    "logout",
    "manifest_bytes",
    "pack",
    "prepare",
    "prune",
    "pull",
    "push",
    "quantize",
    "remove",
    "repair",
    "save",
    "serve",
    "serve_detached",
    "server_logs",
    "servers",
    "stop_server",
    "tag",
    "talk",
    "tree",
    "verify",
    "write_out",
]


def __getattr__(name: str) -> object:
    """Load a public name's module and return the name's value (PEP 562)."""
    if name not in _HOME:
        msg = f"module 'lading.api' has no attribute {name!r}"
        raise AttributeError(msg)
    # A function may be named like the module it lives in, which importing would put in its place.
    value: object = getattr(import_module(_HOME[name]), "load" if name == "load_config" else name)
    globals()[name] = value
    return value
