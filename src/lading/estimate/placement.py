"""Where llama.cpp puts what: layers and tensors on the host and on devices (load_tensors in its src/llama-model.cpp)."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from lading.estimate.architectures import ENCODERS
from lading.estimate.settings import REPACKED, padded

if TYPE_CHECKING:
    from lading.estimate.settings import EstimateSettings
    from lading.formats.tensor import Tensor
    from lading.hparams import Hparams

_ALIGNMENT = 32
_LAYER = re.compile(r"blk\.([0-9]{1,4})\.")
_INPUT = ("token_embd.weight", "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight")
_FIRST_LAYER = ("token_embd_norm.", "per_layer_model_proj.", "per_layer_proj_norm.")
_MATRIX = 2
_EXPERTS = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps")


class _Rule(NamedTuple):
    """Tensors that lie elsewhere than their layer; with `layers` those of so many first ones only."""

    pattern: re.Pattern[str]
    device: int | None
    layers: int | None = None


class Places(NamedTuple):
    """The device of each layer, and of the output; None is the host."""

    layers: tuple[int | None, ...]
    output: int | None

    @property
    def used(self) -> tuple[int, ...]:
        """The devices that have a layer or the output."""
        return tuple(sorted({one for one in (*self.layers, self.output) if one is not None}))

    @property
    def whole(self) -> bool:
        """Whether nothing but the input stays on the host."""
        return self.output is not None and None not in self.layers


def places_of(settings: EstimateSettings, layers: int) -> Places:
    """Return where each of so many layers and the output go."""
    if not settings.devices:
        return Places((None,) * layers, None)
    asked = layers + 1 if settings.gpu_layers is None else settings.gpu_layers
    first = max(layers + 1 - asked, 0)
    count = min(asked, layers + 1)
    shares = settings.tensor_split or (1.0,) * settings.devices
    # In single precision as there: at the edge between two devices the last bit decides.
    sums = list(accumulate(map(_single, shares), lambda one, other: _single(one + other)))
    ends = [_single(one / sums[-1]) for one in sums]

    def place(index: int) -> int | None:
        if index < first or not count:
            return None
        return min(bisect_right(ends, _single((index - first) / count)), settings.devices - 1)

    return Places(tuple(place(index) for index in range(layers)), place(layers))


@dataclass(slots=True)
class Held:
    """Bytes of tensors on one device; `repacked` are those that its processor may keep twice."""

    weights: int = 0
    repacked: int = 0


def weights_of(hparams: Hparams, settings: EstimateSettings, places: Places) -> dict[int | None, Held]:
    """Return the bytes of tensors by device, each tensor padded to 32."""
    rules = _rules(settings)
    held: dict[int | None, Held] = {None: Held(), **{index: Held() for index in range(settings.devices)}}
    for tensor in hparams.tensors:
        for device in _devices(tensor, hparams, places, rules):
            size = padded(tensor.size, _ALIGNMENT)
            held[device].weights += size
            if (
                device is None
                and tensor.type in REPACKED
                and len(tensor.shape) >= _MATRIX
                and tensor.name not in _INPUT
            ):
                held[device].repacked += size
    return held


def kept_back(hparams: Hparams, settings: EstimateSettings, places: Places) -> dict[str, int]:
    """Return which work stays on the host for layers that lie on devices, and how wide it is at most.

    It is `experts` (all of them), `some experts`, `dense` (feed-forward) or `other`; the width is a matrix's input and
    output together.
    """
    rules = _rules(settings)
    widths: dict[str, int] = {}
    every = True
    for tensor in hparams.tensors if rules else ():
        layer = layer_of(tensor.name)
        if layer is None or layer >= len(places.layers) or places.layers[layer] is None or len(tensor.shape) < _MATRIX:
            continue
        rule = _rule(tensor.name, rules)
        experts = "_exps." in tensor.name
        if rule is not None and rule.device is None:
            kind = "experts" if experts else "dense" if ".ffn_" in tensor.name else "other"
            widths[kind] = max(widths.get(kind, 0), tensor.shape[0] + tensor.shape[1])
        elif experts and tensor.name.endswith("weight"):
            every = False
    if "experts" in widths and not every:
        widths["some experts"] = widths.pop("experts")
    return widths


def _is_tied(hparams: Hparams) -> bool:
    """Tell whether the output uses the embeddings' matrix, for want of one of its own; encoders have no output."""
    return hparams.architecture not in ENCODERS and all(tensor.name != "output.weight" for tensor in hparams.tensors)


def layer_of(name: str) -> int | None:
    """Return the layer that a tensor belongs to; None for those of the whole model."""
    match = _LAYER.match(name)
    return int(match[1]) if match else None


def _rules(settings: EstimateSettings) -> list[_Rule]:
    rules = [_Rule(re.compile(one.pattern), one.device) for one in settings.overrides]
    return [*rules, _Rule(_EXPERTS, None, settings.n_cpu_moe)] if settings.n_cpu_moe else rules


def _rule(name: str, rules: list[_Rule]) -> _Rule | None:
    for rule in rules:
        if rule.pattern.search(name):
            layer = layer_of(name)
            if rule.layers is None or (layer is not None and layer < rule.layers):
                return rule
    return None


def _devices(tensor: Tensor, hparams: Hparams, places: Places, rules: list[_Rule]) -> tuple[int | None, ...]:
    if rule := _rule(tensor.name, rules):
        return (rule.device,)
    layer = layer_of(tensor.name)
    if layer is not None:
        return (places.layers[layer] if layer < len(places.layers) else places.output,)
    if tensor.name in _INPUT:
        again = tensor.name == "token_embd.weight" and places.output is not None and _is_tied(hparams)
        return (None, places.output) if again else (None,)
    if tensor.name.startswith("rope_"):
        return tuple(dict.fromkeys(places.layers)) or (places.output,)
    if tensor.name.startswith(_FIRST_LAYER) and not (hparams.architecture or "").startswith("lfm2"):
        return (places.layers[0] if places.layers else None,)
    return (places.output,)


def _single(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
