"""The card survives every form it takes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from faststyle.errors import ModelError
from faststyle.modelcard import SCHEMA, ModelCard, Style

CARD = ModelCard(
    name="starry",
    styles=(Style("The Starry Night", "Vincent van Gogh", "1889", "public domain", "ab" * 32),),
    net={"family": "lowres", "channels": [16, 48]},
    loss={"strength": 0.5},
    training={"steps": 10},
    metrics={"val/style": 0.1},
    versions={"faststyle": "0.1.0"},
)


def test_metadata_round_trip():
    metadata = CARD.to_metadata()
    assert all(key.startswith("faststyle.") for key in metadata)
    assert all(json.loads(text) is not None for text in metadata.values())
    assert ModelCard.from_metadata(metadata) == CARD


def test_json_round_trip():
    assert ModelCard.from_dict(json.loads(CARD.to_json())) == CARD


def test_foreign_metadata_is_no_card():
    assert ModelCard.from_metadata({"author": "somebody"}) is None


def test_unknown_fields_are_passed_over():
    assert ModelCard.from_dict({**CARD.to_dict(), "novelty": 1}) == CARD


@pytest.mark.parametrize(
    "values", [{"name": "x", "schema": SCHEMA + 1}, {}, {"name": "x", "styles": [{"colour": "red"}]}]
)
def test_a_card_that_cannot_be_read_says_so_in_one_line(values):
    with pytest.raises(ModelError) as caught:
        ModelCard.from_dict(values)
    assert "\n" not in str(caught.value)


def test_damaged_metadata_says_so():
    with pytest.raises(ModelError, match="damaged"):
        ModelCard.from_metadata({"faststyle.name": "{"})


def test_a_style_has_a_name_where_there_are_several():
    """Version 0.1, which knows of no such field, reads the cards of single styles."""
    assert all("name" not in style for style in CARD.to_dict()["styles"])
    several = replace(CARD, styles=(*CARD.styles, Style("The Great Wave", name="wave")))
    assert [style.get("name") for style in several.to_dict()["styles"]] == [None, "wave"]
    assert ModelCard.from_metadata(several.to_metadata()) == several
    assert ModelCard.from_dict(json.loads(several.to_json())) == several
