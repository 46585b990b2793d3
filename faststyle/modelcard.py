"""The card that travels with every weights file and model: what it paints, how it was trained, how good it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from faststyle.errors import ModelError

__all__ = ["SCHEMA", "ModelCard", "Style"]

SCHEMA = 1
"""Version of the card's layout; a reader refuses a newer one."""

_PREFIX = "faststyle."


@dataclass(frozen=True)
class Style:
    """The painting that a network learned."""

    title: str
    artist: str = ""
    year: str = ""
    licence: str = ""
    sha256: str = ""
    """Digest of the style image's file."""
    name: str = ""
    """The word by which the style is chosen in a model of several."""


@dataclass(frozen=True)
class ModelCard:
    """What a weights file or model knows about itself.

    `net`, `loss` and `training` are the settings as plain JSON values, `metrics` the validation losses, `versions` the
    libraries it was made with. A card holds no time stamps: the same weights give the same bytes.
    """

    name: str
    styles: tuple[Style, ...] = ()
    net: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    min_size: int = 16
    """Smallest height and width in pixels that the model takes."""
    precision: str = "float32"
    """Number format that the model computes in: float32 or int8."""
    halo: int = 0
    """Pixels beyond a tile's border that its result depends on, statistics apart; 0 where nobody has worked it out."""
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        values = asdict(replace(self, styles=tuple(self.styles)))
        for style in values["styles"]:
            if not style["name"]:  # faststyle 0.1 reads cards of styles without one
                del style["name"]
        return values

    def to_json(self) -> str:
        """The card as indented JSON text: the sidecar that lies beside a model."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_metadata(self) -> dict[str, str]:
        """The card as ONNX `metadata_props` or safetensors metadata: `faststyle.FIELD` to JSON text."""
        values = self.to_dict()
        return {_PREFIX + key: json.dumps(values[key], ensure_ascii=False, sort_keys=True) for key in sorted(values)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelCard:
        """Read a card; unknown fields are passed over, a newer schema raises ModelError."""
        schema = values.get("schema", SCHEMA)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise ModelError(
                f"its card has schema {schema}, newer than this faststyle reads ({SCHEMA}): update faststyle"
            )
        known = {item.name for item in fields(cls)}
        try:
            about = {item.name for item in fields(Style)}
            styles = tuple(
                Style(**{key: value for key, value in style.items() if key in about})
                for style in values.get("styles", ())
            )
            return cls(
                **{key: value for key, value in values.items() if key in known and key != "styles"}, styles=styles
            )
        except (TypeError, AttributeError) as error:
            raise ModelError(f"its card is damaged ({error}): export the model again") from None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelCard | None:
        """The card in ONNX or safetensors metadata; None where the file carries none."""
        ours = {key.removeprefix(_PREFIX): text for key, text in metadata.items() if key.startswith(_PREFIX)}
        if not ours:
            return None
        try:
            return cls.from_dict({key: json.loads(text) for key, text in ours.items()})
        except json.JSONDecodeError as error:
            raise ModelError(f"its card is damaged ({error}): export the model again") from None
