"""The reference optimisation falls as torch's own does, and its curves are kept."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
import torch

from faststyle.errors import WriteError
from faststyle.evaluate import curves
from faststyle.evaluate.curves import claim_curve, curve, curve_path, descend, keep_curve, read_curve, steps_to
from faststyle.evaluate.ruler import Ruler
from faststyle.optimize.pixels import to_tensor
from faststyle.optimize.transforms import gradient_of


def written_out(ruler, photo, first, steps):
    """L-BFGS on the pixels as everyone writes it: the losses that the closure sees, and the last picture."""
    objective, image = ruler.against(photo), to_tensor(first, ruler.device).requires_grad_()
    method = torch.optim.LBFGS([image], max_iter=1, tolerance_grad=0, tolerance_change=0)
    seen = []

    def closure():
        method.zero_grad()
        total = objective(image).total
        total.backward()
        seen.append(float(total.detach()))
        return total

    for _ in range(steps):
        method.step(closure)
        with torch.no_grad():
            image.clamp_(0, 1)
    return seen, image.detach()


@pytest.mark.parametrize("start", curves.STARTS)
def test_a_curve_falls_as_plain_lbfgs_does(ruler, photo, start):
    losses = list(curve(ruler, photo, start, 12))
    assert len(losses) == 13
    assert losses[-1] < losses[1] < losses[0] and losses[-1] < 0.9 * losses[0]
    noise = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
    seen, last = written_out(ruler, photo, photo if start == "photo" else noise, 12)
    assert losses[:12] == seen
    assert losses[12] == float(ruler.against(photo)(last).total)


def test_it_begins_where_it_starts(ruler, photo):
    losses = [next(curve(ruler, photo, start, 5)) for start in curves.STARTS]
    assert losses[0] == float(ruler.against(photo)(to_tensor(photo, ruler.device)).total)
    assert losses[1] > losses[0]


def test_pixels_stay_in_range_and_any_optimiser_serves(ruler, photo):
    image = to_tensor(photo, ruler.device)
    start = image.clone()
    gradient = gradient_of(ruler.against(photo))
    for loss in descend(image, gradient, 4, lambda pixels: torch.optim.SGD(pixels, lr=10.0)):
        assert loss == pytest.approx(gradient(image)[0]["total"], rel=1e-6)
        assert float(image.min()) >= 0 and float(image.max()) <= 1
    assert not torch.equal(image, start)


@pytest.mark.parametrize(
    ("target", "steps"),
    [(9.0, 0.0), (8.0, 0.0), (7.0, 0.5), (6.0, 1.0), (5.5, 2.25), (5.0, 2.5), (4.0, 3.0), (3.9, math.inf)],
)
def test_steps_are_interpolated(target, steps):
    # It rises once: what counts is when it was first as low.
    assert steps_to([8.0, 6.0, 6.0, 4.0, 5.0, 4.0], target) == steps
    assert steps_to([8.0, 6.0, 7.0, 5.0], 6.5) == 0.75


def test_a_kept_curve_serves_as_long_as_it_is_long_enough(tmp_path):
    path = tmp_path / "curves" / "one.json"
    assert read_curve(path, 2) is None
    claim_curve(path)
    keep_curve(path, [3.0, 2.0, 1.0])
    assert read_curve(path, 2) == [3.0, 2.0, 1.0]
    assert read_curve(path, 1) == [3.0, 2.0]
    assert read_curve(path, 3) is None
    assert [file.name for file in path.parent.iterdir()] == ["one.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1, 2]",
        b"{}",
        b'{"losses": 3}',
        b'{"losses": []}',
        b'{"losses": ["a"]}',
        b'{"losses": [1, NaN]}',
        b"\xff",
    ],
)
def test_a_damaged_one_is_said_and_does_not_serve(tmp_path, caplog, content):
    (tmp_path / "one.json").write_bytes(content)
    with caplog.at_level(logging.WARNING, "faststyle"):
        assert read_curve(tmp_path / "one.json", 1) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'one.json'} is damaged: its curve is computed again"
    ]


def test_the_name_tells_what_a_curve_depends_on(tmp_path, ruler, photo, painting, shallow, network, monkeypatch):
    other = Ruler(painting[::-1].copy(), shallow, network)
    names = [
        curve_path(tmp_path, ruler, photo, "photo"),
        curve_path(tmp_path, ruler, photo, "noise"),
        curve_path(tmp_path, ruler, photo[::-1].copy(), "photo"),
        curve_path(tmp_path, ruler, photo.reshape(16, 64, 3), "photo"),
        curve_path(tmp_path, other, photo, "photo"),
    ]
    assert curve_path(tmp_path, ruler, photo.copy(), "photo") == names[0]
    monkeypatch.setattr(curves, "SEED", 1)
    names.append(curve_path(tmp_path, ruler, photo, "photo"))
    monkeypatch.setattr(curves, "SCHEMA", curves.SCHEMA + 1)
    names.append(curve_path(tmp_path, ruler, photo, "photo"))
    assert len(set(names)) == len(names)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "curves").write_text("a file")
    for act in (claim_curve, lambda path: keep_curve(path, [1.0])):
        with pytest.raises(WriteError, match="set FASTSTYLE_CACHE to a folder with room to write"):
            act(tmp_path / "curves" / "one.json")


def test_a_kept_file_is_plain_json(tmp_path):
    keep_curve(tmp_path / "one.json", [2.5, 1.25])
    assert json.loads((tmp_path / "one.json").read_text()) == {"schema": curves.SCHEMA, "losses": [2.5, 1.25]}
