"""The result of a build: an outcome becomes a model in one format or several, which share every file.

As an image it is what GGUF Packer makes: files where the recipe put them, CMD, and a config from which the model is
known. Docker's and ModelPack's artifacts hold the same files and settings, and the command as an annotation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lading.artifact import image, image_config
from lading.artifact.format import PLATFORMS
from lading.artifact.layers import check_files, list_archives, wrapped_part
from lading.build.cast import Cast, cast
from lading.build.ground import Ground
from lading.build.wishes import template_of
from lading.convert.forms import Form, gather, unpacked
from lading.convert.overlay import Overlay, Wrapped
from lading.errors import FormatError
from lading.events import Noted
from lading.formats.archive import wrap
from lading.manifest import Descriptor
from lading.model import Model, Part, Role, check_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lading.artifact import Format, Written
    from lading.build.outcome import Outcome
    from lading.content import Source
    from lading.convert import Made, Press
    from lading.events import Reporter
    from lading.manifest import Manifest, Platform

_TEMPLATE = "chat_template.jinja"
_THING = "the result of the build"
_MOST_LAYERS = 127
_LARGEST_OWNER = 8**7 - 1


def write(outcome: Outcome, rows: Sequence[Format], store: Source, press: Press, reporter: Reporter) -> Made:
    """Write an outcome, whose files are in `store`, in each of the formats.

    Raises FormatError for an outcome that is no model, names files that are not in it, or cannot be held by a format;
    NotFoundError for a base that is not for the platform; and the errors of the base's source.
    """
    result = _Result(outcome, store, press, reporter)
    forms = tuple(
        Form(row.name, tuple(result.images()) if row.write_upon else ((result.artifact(row), None),)) for row in rows
    )
    return gather(forms, result.overlay)


class _Result:
    def __init__(self, outcome: Outcome, store: Source, press: Press, reporter: Reporter) -> None:
        self.overlay = Overlay(store)
        self._outcome = outcome
        self._press = press
        self._reporter = reporter
        self._layers: dict[str, Part] = {}
        self._images: list[tuple[Written, Platform]] = []

    def images(self) -> list[tuple[Manifest, Platform]]:
        """Return the image for each platform, their blobs held by the overlay."""
        return [(written.manifest, platform) for written, platform in self._written()]

    def artifact(self, row: Format) -> Manifest:
        """Return the artifact in a format whose layers are files, its config held by the overlay."""
        written = row.write(self._model(), self._outcome.created)
        for sentence in written.left_out:
            self._reporter.emit(Noted(sentence, warning=True))
        self._hold(written)
        return written.manifest

    def _written(self) -> list[tuple[Written, Platform]]:
        if not self._images:
            outcome = self._outcome
            wanted = (outcome.platform,) if outcome.platform else PLATFORMS
            for platform in outcome.base.platforms(wanted) if outcome.base else wanted:
                written = self._image(platform)
                self._hold(written)
                self._images.append((written, platform))
            layers = max(len(written.manifest.layers) for written, _platform in self._images)
            if layers > _MOST_LAYERS:
                text = f"the image has {layers} layers, one for each file; Docker runs images of at most {_MOST_LAYERS}"
                self._reporter.emit(Noted(text, warning=True))
        return self._images

    def _image(self, platform: Platform) -> Written:
        outcome = self._outcome
        below = outcome.base.image(platform, self.overlay) if outcome.base else None
        found = self._cast(Ground(*below, self.overlay) if below else None)
        parts = tuple(self._wrapped(path, part) for path, part in found.parts.items())
        model = Model(parts, found.facts)
        if below is None:
            return image_config.write(model, outcome.created, platform, found.said)
        return image_config.write_upon(*below, model, outcome.created, found.said)

    def _cast(self, ground: Ground | None) -> Cast:
        found = cast(self._outcome, ground, self.overlay)
        parts = tuple(found.parts.values())
        check_names((part.name for part in parts), _THING)
        check_files(parts, _THING)
        return found

    def _wrapped(self, path: str, part: Part) -> Part:
        """Return a file as a layer, which is made and hashed once for all platforms."""
        if path not in self._layers:
            held = self._outcome.files[f"/{path}"]
            if not 0 <= max(held.uid, held.gid) <= _LARGEST_OWNER:
                msg = f"/{path} is to belong to {held.uid}:{held.gid}"
                raise FormatError(msg, hint=f"the largest number of an owner that a layer holds is {_LARGEST_OWNER}")
            wrapping = wrap(path, part.size, mode=held.mode, owner=(held.uid, held.gid))
            digest = self._press.layer(part, wrapping, self.overlay)
            self.overlay.add(digest, Wrapped(part.name, wrapping, part.blob, self.overlay))
            self._layers[path] = wrapped_part(part, wrapping, digest)
        return replace(self._layers[path], role=part.role)

    def _model(self) -> Model:
        """Return the model with all its files as blobs of their own, those of the base too."""
        if self._outcome.base is None:
            found = self._cast(None)
            return self._with_template(Model(tuple(found.parts.values()), found.facts), found)
        written, platform = self._written()[0]
        found = self._cast(Ground(*self._outcome.base.image(platform, self.overlay), self.overlay))
        listing = list_archives(image.ROW.archives(written.manifest, written.config), self.overlay)
        read = image.ROW.read(written.manifest, written.config, listing)
        parts = unpacked(read.parts, self.overlay, self._press, self.overlay)
        return self._with_template(Model(parts, found.facts), found)

    def _with_template(self, model: Model, found: Cast) -> Model:
        """Return the model with a chat template that its command holds written out, as a file of its own."""
        text = template_of(found.command) if found.command else None
        if text is None or model.of(Role.TEMPLATE) or any(part.name == _TEMPLATE for part in model.parts):
            return model
        data = text.encode()
        self.overlay.write(data)
        return replace(model, parts=(*model.parts, Part(Role.TEMPLATE, _TEMPLATE, Descriptor.of(data, "text/plain"))))

    def _hold(self, written: Written) -> None:
        for data in (written.config, *written.blobs):
            self.overlay.write(data)
