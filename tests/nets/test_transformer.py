"""The transformer network: shapes, range, padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from faststyle.config import NETS, NetConfig
from faststyle.nets.layers import ConvNorm, DeepBlock, Dither, Relief, Seeds, odd_pad, reflect_pad
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
    ("name", "parameters"), [("nano", 68_641), ("fast", 211_105), ("quality", 914_465), ("johnson", 1_677_635)]
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


def test_odd_pad_is_numpys():
    x = torch.rand(2, 3, 20, 30)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (12, 9), (12, 5)), mode="reflect", reflect_type="odd")
    # numpy pads one axis after the other: in the corners it goes on from rows that have been turned around already.
    found = odd_pad(x, 12, 41, 47).numpy()
    assert np.allclose(found[:, :, 12:32], expected[:, :, 12:32], atol=1e-6)
    assert np.allclose(found[..., 12:42], expected[..., 12:42], atol=1e-6)
    assert np.allclose(found[:, :, 0, 0], 2 * x[:, :, 0, 0] - x[:, :, 12, 12], atol=1e-6)


def test_odd_pad_continues_a_slope_straight_on():
    rows, columns = torch.arange(-10.0, 50)[:, None], torch.arange(-10.0, 40)
    slope = (3 * rows - 2 * columns)[None, None]
    assert torch.equal(odd_pad(slope[:, :, 10:40, 10:33], 10, 60, 50)[..., 10:40, :], slope[..., 10:40, :])
    assert torch.equal(odd_pad(slope[:, :, 10:40, 10:33], 10, 50, 43), slope[..., :50, :43])


def test_odd_pad_turns_around_again_where_the_picture_is_small():
    x = torch.tensor([0.0, 1, 3]).view(1, 1, 1, 3)
    assert odd_pad(x, 4, 1, 11)[0, 0, 0, :].tolist() == [0, -1, -3, -1, 0, 1, 3, 5, 6, 5, 3]


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
def test_a_relief_is_recomputed_from_first_principles() -> None:
    relief = Relief()
    photo = torch.rand(2, 3, 80, 96) - 0.5
    found = relief(photo, 16, 49, 67)
    assert found.shape == (2, 6, 10, 12)
    luma = (photo[1].double() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0).numpy()
    # The photo's own squares of 4 pixels are rows 4 to 16 and columns 4 to 20, less what is left of 49 and 67 pixels.
    inside = torch.from_numpy(luma.reshape(20, 4, 24, 4).mean((1, 3))[4:16, 4:20])
    light = odd_pad(inside[None, None], 24, 60, 64)[0, 0].numpy()
    place = np.arange(-8, 9)

    def bell(deviation: float, at: NDArray[np.int64]) -> NDArray[np.float64]:
        row = np.exp(-(at**2) / (2 * deviation**2))
        weights: NDArray[np.float64] = np.outer(row, row) / row.sum() ** 2
        return weights

    for scale, deviation in enumerate((1.5, 3.0)):
        near, far = bell(deviation, place), bell(1.6 * deviation, place)
        slope = near / (near * place**2).sum() - far / (far * place**2).sum()
        kernels = [slope * place, slope * place[:, None], near - far]
        kernels = [kernel / np.sqrt((kernel**2).sum()) for kernel in kernels]

        def slopes(row: int, column: int, kernels: list[NDArray[np.float64]] = kernels) -> list[float]:
            cut = light[20 + 2 * row - 8 : 20 + 2 * row + 9, 20 + 2 * column - 8 : 20 + 2 * column + 9]
            return [float((cut * kernel).sum()) for kernel in kernels]

        for row, column in ((0, 0), (4, 7), (9, 11)):
            squares = np.array(
                [[np.square(slopes(row + r, column + c)).mean() for c in range(-6, 7)] for r in range(-6, 7)]
            )
            size = np.sqrt((squares * bell(3.0, np.arange(-6, 7))).sum() + 1e-8)
            expected = np.array(slopes(row, column)) / size
            assert np.allclose(found[1, 3 * scale : 3 * scale + 3, row, column], expected, atol=2e-3)


@torch.no_grad()
def test_a_relief_is_as_strong_where_the_photo_is_faint() -> None:
    """And follows the photo's lines: of stripes that lie across it has slopes down and none across."""
    rows = torch.arange(256)[:, None]
    stripes = torch.sin(rows / 6) * torch.where(torch.arange(256) < 128, 0.4, 0.01)
    fields = Relief()(stripes.expand(1, 3, 256, 256), 0, 256, 256)[0]
    strong, faint = fields[:, 8:-8, 4:8].square().mean((1, 2)), fields[:, 8:-8, -8:-4].square().mean((1, 2))
    assert torch.allclose(strong, faint, rtol=0.1, atol=0.01)
    assert strong[1] > 0.5 and strong[0] < 0.01
    flat = Relief()(Dither(2.0)(torch.zeros(1, 3, 256, 256)), 0, 256, 256)[..., 5:-5, 5:-5]
    assert 0.7 < float(flat.square().mean()) < 1.1, "in a flat photo it is the dither's"
    assert Relief()(torch.zeros(1, 3, 64, 64), 0, 64, 64).abs().max() < 0.1, "and without one there is none"
    with torch.autocast("cpu", torch.bfloat16):
        assert Relief()(stripes.expand(1, 3, 256, 256), 0, 256, 256)[0].equal(fields), "whatever the number format"


@torch.no_grad()
def test_a_relief_of_a_slope_has_no_line_along_the_borders() -> None:
    """Mirrored, a sky that grows darker upwards has a crease there, which was painted as a band."""
    slope = torch.linspace(-0.4, 0.4, 200)[:, None].expand(1, 3, 200, 160)
    relief = Relief()(reflect_pad(slope, 64, 8), 64, 200, 160)[0, :, 8:33, 8:28]
    assert relief.abs().max() < 0.01, "nor any other: strokes grow from what stands out"
    noise = Dither(2.0)(torch.zeros(1, 3, 200, 160))
    fields = Relief()(reflect_pad(slope + noise, 64, 8), 64, 200, 160)[0, :, 11:30, 11:25]
    assert fields.mean((1, 2)).abs().max() < 0.3 and 0.5 < float(fields.square().mean()) < 1.2, "in its grain"


@torch.no_grad()
def test_seeds_are_the_relief_times_each_styles_gains() -> None:
    seeds = Seeds(3, rows=2)
    assert seeds.gain[0].equal(seeds.gain[1]), "fresh styles are alike"
    nn.init.normal_(seeds.gain)
    x, relief = torch.rand(2, 3, 9, 7), torch.randn(2, 6, 9, 7)
    mixed = seeds(x, relief, torch.tensor([[0.25, 0.75], [0.0, 2.0]])) - x
    for picture, (first, second) in enumerate(((0.25, 0.75), (0.0, 2.0))):
        gain = first * seeds.gain[0] + second * seeds.gain[1]
        assert torch.allclose(mixed[picture], torch.einsum("fc,fhw->chw", gain, relief[picture]), atol=1e-5)


@torch.no_grad()
def test_a_dither_that_is_laid_elsewhere_is_a_cut_of_the_same_pattern() -> None:
    net = TransformerNet(NETS["nano"])
    dithered = net.dither(torch.zeros(1, 3, 720, 960))
    net.lay_noise(70, 100)  # beyond the sides of both patterns
    assert net.dither(torch.zeros(1, 3, 96, 80)).equal(dithered[:, :, 560:656, 800:880])
    net.lay_noise()
    assert net.dither(torch.zeros(1, 3, 96, 80)).equal(dithered[:, :, :96, :80])


@torch.no_grad()
def test_noise_moves_along_with_a_photo() -> None:
    net, photo = TransformerNet(NETS["nano"]), torch.rand(1, 3, 40, 50)
    net.lay_noise(7, 9)
    whole = net.dither(photo)
    with net.noise_moved(3, 5):
        assert torch.equal(net.dither(photo[:, :, 3:, 5:]), whole[:, :, 3:, 5:])
    assert torch.equal(net.dither(photo), whole)


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
        still = plain(flat)[:, :, 40:64, 40:64]
    assert grown.std((2, 3)).min() > 0.01
    # Without it a flat photo repeats one 8 x 8 cell.
    assert torch.allclose(still[:, :, :8, :8], still[:, :, 8:16, 8:16], atol=1e-4)


def test_a_deep_block_adds_to_what_it_is_given() -> None:
    block = DeepBlock(4, 6, blocks=2)
    x, mixture = torch.rand(2, 4, 10, 14), torch.ones(1, 1)
    relief = torch.randn(2, 6, 5, 7)
    inner = block.blocks(block.seeds(block.down(x, mixture), relief, mixture), mixture)
    assert inner.shape == (2, 6, 5, 7)
    added = block(x, relief, mixture) - x
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
    farthest, inside = 0, 400 - 2 * config.padding
    for place in range(200, 200 + config.stride):
        image = torch.rand(1, 3, 400, 400, requires_grad=True)
        (slope,) = torch.autograd.grad(net.paint(image, net.mixture(), inside, inside)[0, 0, place, place], image)
        farthest = max(farthest, int((slope.abs().sum((0, 1)).nonzero() - place).abs().max()))
    assert config.reach - config.stride < farthest <= config.reach
