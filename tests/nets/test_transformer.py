"""The transformer network: shapes, range, padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faststyle.config import NETS, NetConfig
from faststyle.nets.layers import BANDS, ConvNorm, DeepBlock, Dither, Seeds, reflect_pad
from faststyle.nets.styles import style_rows
from faststyle.nets.transformer import TransformerNet


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [(16, 16), (33, 50)])
def test_any_size_comes_back_as_it_went_in_and_in_range(name, size):
    torch.manual_seed(0)
    photo = torch.rand(2, 3, *size)
    with torch.no_grad():
        stylized = TransformerNet(NETS[name])(photo)
    assert stylized.shape == photo.shape
    assert stylized.min() >= 0 and stylized.max() <= 1


@pytest.mark.parametrize(
    ("name", "parameters"), [("nano", 68_449), ("fast", 210_817), ("quality", 913_889), ("johnson", 1_677_635)]
)
def test_the_named_nets_have_the_sizes_that_the_documents_state(name, parameters):
    assert sum(tensor.numel() for tensor in TransformerNet(NETS[name]).parameters()) == parameters


def test_reflect_pad_is_torchs_where_torch_can():
    x = torch.rand(2, 3, 40, 50)
    assert torch.equal(reflect_pad(x, 32, multiple=1), F.pad(x, (32, 32, 32, 32), mode="reflect"))


def test_reflect_pad_mirrors_again_where_the_picture_is_small():
    x = torch.arange(3.0).view(1, 1, 1, 3)
    row = reflect_pad(x, 4, multiple=1)[0, 0, 0]
    assert row.tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert reflect_pad(torch.ones(1, 1, 1, 1), 4, multiple=4).shape == (1, 1, 12, 12)


def test_reflect_pad_fills_up_to_the_multiple():
    assert reflect_pad(torch.rand(1, 3, 21, 30), 32, multiple=4).shape == (1, 3, 88, 96)


def test_the_dither_is_the_same_everywhere_and_unseen():
    noise = Dither(2.0)(torch.zeros(1, 1, 640, 640))
    assert 1.9 / 255 < noise.abs().max() <= 2 / 255
    assert noise.mean().abs() < 1e-4
    # The first values of numpy's frozen RandomState(0): another stream would change every shipped model.
    assert torch.allclose(noise[0, 0, 0, :3].abs() * 255 / 2, torch.tensor([0.09762701, 0.43037873, 0.20552675]))
    photo = torch.rand(2, 3, 20, 30)
    assert torch.allclose(Dither(2.0)(photo), photo + noise[:, :, :20, :30])


@pytest.mark.parametrize("shift", [61, 64, 122, 128, 256, 305])
def test_the_dither_does_not_repeat(shift: int) -> None:
    noise = Dither(2.0)(torch.zeros(1, 1, 1000, 1000))[0, 0]
    for axis in (0, 1):
        size = 1000 - shift
        one, other = noise.narrow(axis, 0, size), noise.narrow(axis, shift, size)
        assert abs(float((one * other).mean() / (noise * noise).mean())) < 0.05


@torch.no_grad()
def test_seeds_are_fields_of_fixed_noise_times_each_styles_gains() -> None:
    seeds = Seeds(3, rows=2)
    assert seeds.gain[0].equal(seeds.gain[1]), "fresh styles are alike"
    fields = len(BANDS)
    unit = torch.empty(fields, 400, 500)
    for field in range(fields):
        seeds.gain.zero_()
        seeds.gain[0, field] = torch.tensor([1.0, -2.0, 0.5])
        noise = seeds(torch.zeros(1, 3, 400, 500), torch.tensor([[1.0, 0.0]]))[0]
        unit[field] = noise[0]
        assert torch.allclose(noise[1], -2 * noise[0]) and torch.allclose(noise[2], 0.5 * noise[0])
    # A wider field has fewer independent values, and so a mean that strays further.
    assert unit.mean((1, 2)).abs().max() < 0.02 and (unit.var((1, 2)) - 1).abs().max() < 0.05
    likeness = torch.corrcoef(unit.flatten(1)) - torch.eye(fields)
    assert likeness.abs().max() < 0.03, "the fields are independent"
    # By hand: another stream of numbers or another kernel would change every trained net.
    values = np.random.RandomState(0).normal(0, 1, (64, 64))
    signs = np.random.RandomState(1).randint(0, 2, (61, 61)) * 2 - 1
    for field, deviations in enumerate(((0.9, 1.6), (0.9, 1.6), (1.8, 3.0))):
        down, across = np.arange(10, 23) + 1301 * field, np.arange(20, 33) + 1709 * field
        white = values[down % 64][:, across % 64] * signs[down % 61][:, across % 61]
        rows = [np.exp(-(np.arange(-6, 7) ** 2) / (2 * deviation**2)) for deviation in deviations]
        sharp, wide = (row / row.sum() for row in rows)
        band = sharp @ white @ sharp - wide @ white @ wide
        size = np.sqrt((sharp @ sharp) ** 2 - 2 * (sharp @ wide) ** 2 + (wide @ wide) ** 2)
        assert float(unit[field, 10, 20]) == pytest.approx(band / size, abs=1e-4)
    nn.init.normal_(seeds.gain)
    x = torch.rand(2, 3, 9, 7)
    mixed = seeds(x, torch.tensor([[0.25, 0.75], [0.0, 2.0]])) - x
    for picture, (first, second) in enumerate(((0.25, 0.75), (0.0, 2.0))):
        gain = first * seeds.gain[0] + second * seeds.gain[1]
        assert torch.allclose(mixed[picture], torch.einsum("fc,fhw->chw", gain, unit[:, :9, :7]), atol=1e-4)


@torch.no_grad()
def test_noise_that_is_laid_elsewhere_is_a_cut_of_the_same_pattern() -> None:
    net = TransformerNet(NETS["nano"])
    seeds = next(module for module in net.modules() if isinstance(module, Seeds))
    x, mixture = torch.zeros(1, 32, 12, 10), torch.tensor([[1.0, 0.0]])
    seeded = seeds(torch.zeros(1, 32, 90, 120), mixture)
    dithered = net.dither(torch.zeros(1, 3, 720, 960))
    net.lay_noise(70, 100)  # beyond the sides of both patterns
    assert torch.allclose(seeds(x, mixture), seeded[:, :, 70:82, 100:110], atol=1e-6)
    assert net.dither(torch.zeros(1, 3, 96, 80)).equal(dithered[:, :, 560:656, 800:880])
    net.lay_noise()
    assert torch.allclose(seeds(x, mixture), seeded[:, :, :12, :10], atol=1e-6)


@torch.no_grad()
def test_nothing_wide_is_in_the_seeds() -> None:
    seeds = Seeds(1, rows=1)
    # Sides in cells; before the wide blur is taken away it is 0.2 and 0.1 in the first fields, twice that in the last.
    for field, most in enumerate((0.06, 0.06, 0.2)):
        seeds.gain.zero_()
        seeds.gain[0, field] = 1
        noise = seeds(torch.zeros(1, 1, 256, 256), torch.ones(1, 1))
        for side in (16, 32):
            assert float(F.avg_pool2d(noise, side).std()) < most * 16 / side


@torch.no_grad()
def test_each_picture_of_a_batch_may_have_a_style_of_its_own() -> None:
    torch.manual_seed(0)
    net = TransformerNet(replace(NETS["nano"], styles=3))
    for rows in style_rows(net):
        rows.add_(0.3 * torch.randn_like(rows))
    photos = torch.rand(2, 3, 48, 56)
    chosen = torch.tensor([[0.0, 0.0, 2.0], [1.0, 3.0, 0.0]])
    both = net(photos, chosen, 0.7)
    for picture, weights in enumerate(chosen):
        alone = net(photos[picture, None], weights, 0.7)
        assert torch.allclose(both[picture], alone[0], atol=1e-5)
    assert not torch.allclose(both, net(photos, chosen[0], 0.7), atol=0.01)
    for wrong in ([1.0, 0.0], [1.0] * 6):
        with pytest.raises(ValueError, match="style weights for a net of 3 styles"):
            net(photos, wrong)


def test_strokes_can_grow_in_a_flat_photo():
    torch.manual_seed(0)
    flat = torch.zeros(1, 3, 96, 96)
    with torch.no_grad():
        grown = TransformerNet(NETS["nano"])(flat)[:, :, 24:72, 24:72]
        plain = TransformerNet(replace(NETS["nano"], dither=0))
        deep = plain.body[0]
        assert isinstance(deep, DeepBlock)
        deep.seeds.gain.zero_()
        still = plain(flat)[:, :, 40:64, 40:64]
    assert grown.std((2, 3)).min() > 0.01
    # Without it a flat photo repeats one 8 x 8 cell.
    assert torch.allclose(still[:, :, :8, :8], still[:, :, 8:16, 8:16], atol=1e-4)


def test_a_deep_block_adds_to_what_it_is_given() -> None:
    block = DeepBlock(4, 6, blocks=2)
    x, mixture = torch.rand(2, 4, 10, 14), torch.ones(1, 1)
    inner = block.blocks(block.seeds(block.down(x, mixture), mixture), mixture)
    assert inner.shape == (2, 6, 5, 7)
    added = block(x, mixture) - x
    enlarged = F.interpolate(block.back(inner, mixture), scale_factor=2, mode="bilinear", align_corners=False)
    within = (..., slice(1, -1), slice(1, -1))
    assert torch.allclose(added[within], enlarged[within], atol=1e-5)
    # At the border, which padding takes away again, the zeros outside enter.
    assert torch.allclose(added[..., 0, 1:-1], 0.75 * enlarged[..., 0, 1:-1], atol=1e-5)
    assert added.min() < 0, "no ReLU at the end"


def test_every_parameter_learns():
    """At less than full strength, where the photo's rows count too; and every row of a norm."""
    net = TransformerNet(replace(NETS["nano"], styles=2))
    net(torch.rand(1, 3, 32, 32), [0.3, 0.7], 0.5).square().mean().backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert (parameter.grad.flatten(1) if parameter.ndim == 2 else parameter.grad.flatten()[None]).abs().sum(1).all()


class Through(nn.Module):
    """In the place of a norm: nothing happens."""

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    "config",
    [NetConfig(channels=(4, 4, 4), blocks=blocks) for blocks in (0, 2)]
    + [NetConfig(family="johnson", channels=(4, 4, 4), blocks=1, padding=40)],
)
def test_no_pixel_depends_on_one_beyond_its_reach(config: NetConfig) -> None:
    net = TransformerNet(config)
    for module in net.modules():
        if isinstance(module, ConvNorm):
            module.norm = Through()  # type: ignore[assignment]  # norms see the whole picture
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.01)
    farthest = 0
    for place in range(200, 200 + config.stride):
        image = torch.rand(1, 3, 400, 400, requires_grad=True)
        (slope,) = torch.autograd.grad(net.paint(image, net.mixture())[0, 0, place, place], image)
        farthest = max(farthest, int((slope.abs().sum((0, 1)).nonzero() - place).abs().max()))
    assert config.reach - config.stride < farthest <= config.reach
