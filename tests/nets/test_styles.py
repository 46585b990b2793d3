"""Several styles in one net: rows of scales and shifts, the photo's row, and nets made of some of another's styles."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from faststyle.config import NETS
from faststyle.nets.layers import Blend, DeepBlock, StyleBank, StyleNorm
from faststyle.nets.styles import style_rows, with_rows
from faststyle.nets.transformer import TransformerNet

SMALL = replace(NETS["nano"], channels=(4, 6, 8), blocks=1)


def random_net(styles: int, family: str = "lowres") -> TransformerNet:
    """A net each of whose rows is another."""
    torch.manual_seed(0)
    config = SMALL if family == "lowres" else replace(NETS["johnson"], channels=(4, 6, 8), blocks=1)
    net = TransformerNet(replace(config, styles=styles))
    for rows in style_rows(net):
        nn.init.normal_(rows)
    return net


def repaint(net: TransformerNet, photo: Tensor, *how: object) -> Tensor:
    with torch.no_grad():
        result: Tensor = net(photo, *how)
    return result


def to_bytes(image: Tensor) -> Tensor:
    return (image * 255 + 0.5).to(torch.uint8)


@pytest.fixture
def photo() -> Tensor:
    """A batch of two, of whole levels from black to white."""
    levels = torch.randint(0, 256, (2, 3, 37, 50), generator=torch.Generator().manual_seed(1))
    return levels.float() / 255


def test_a_style_norm_is_recomputed_from_first_principles() -> None:
    norm = StyleNorm(3, rows=2, eps=0.25)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.rand(2, 3, 5, 7) * torch.tensor([1.0, 2, 3])[:, None, None]
    mixture = torch.tensor([[0.25, 0.75], [2.0, -1.0]])
    result = norm(x, mixture)
    for picture in range(2):
        for channel in range(3):
            values = x[picture, channel].double()
            scale = sum(mixture[picture, row] * norm.weight[row, channel] for row in range(2))
            shift = sum(mixture[picture, row] * norm.bias[row, channel] for row in range(2))
            variance = ((values - values.mean()) ** 2).mean()
            expected = (values - values.mean()) / (variance + 0.25).sqrt() * scale + shift
            assert torch.allclose(result[picture, channel].double(), expected, atol=1e-5)
    assert torch.allclose(norm(x, mixture[:1])[1], norm(x, mixture[[0, 0]])[1]), "one mixture serves a batch"


def test_a_style_norm_starts_as_plain_instance_norm() -> None:
    x = torch.rand(2, 3, 9, 8)
    for mixture in ([[1.0, 0, 0]], [[0, 0.5, 0.5]]):
        assert torch.allclose(StyleNorm(3, rows=3)(x, torch.tensor(mixture)), nn.InstanceNorm2d(3)(x), atol=1e-6)


def test_a_bank_mixes_the_channels_of_each_pixel_in_its_styles_way() -> None:
    bank = StyleBank(3, rows=2)
    nn.init.normal_(bank.weight)
    x = torch.rand(2, 3, 5, 7)
    mixture = torch.tensor([[0.25, 0.75], [2.0, -1.0]])
    result = bank(x, mixture)
    for picture, (first, second) in enumerate(mixture.tolist()):
        filters = first * bank.weight[0] + second * bank.weight[1]
        for row, column in ((0, 0), (3, 6)):
            expected = filters @ x[picture, :, row, column]
            assert torch.allclose(result[picture, :, row, column], expected, atol=1e-5)
    assert torch.allclose(bank(x, mixture[:1])[1], bank(x, mixture[[0, 0]])[1], atol=1e-5), "one serves a batch"
    assert torch.equal(StyleBank(3, rows=2)(x, torch.tensor([[0.5, 0.5]])), x), "it begins as nothing"


def test_a_bank_lies_before_every_block_and_after_the_last() -> None:
    block = DeepBlock(4, 6, blocks=2)
    for weight in block.banks.parameters():
        nn.init.normal_(weight)
    x, mixture = torch.rand(2, 4, 10, 14), torch.ones(1, 1)
    relief = torch.randn(2, 6, 5, 7)
    inner = block.seeds(block.down(x, mixture), relief, mixture)
    first, second, last = block.banks
    inner = last(block.blocks[1](second(block.blocks[0](first(inner, mixture), mixture), mixture), mixture), mixture)
    expected = x + block.smooth(block.nearest(block.back(inner, mixture)))
    assert torch.allclose(block(x, relief, mixture), expected, atol=1e-5)


def test_a_blend_is_recomputed_from_first_principles() -> None:
    blend = Blend(2)
    blend.share.data = torch.tensor([0.5, -0.25])
    painted, photo = torch.rand(2, 1, 3, 4, 5)
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.3, 0.2)):
        mixture = torch.tensor([[*weights, 1 - sum(weights)]])
        through = 0.5 * weights[0] - 0.25 * weights[1] + 1 - sum(weights)
        expected = 0.5 + sum(weights) * (painted - 0.5) + through * (photo - 0.5)
        assert torch.allclose(blend(painted, photo, mixture), expected.clamp(0, 1), atol=1e-6)


def test_a_fresh_net_paints_over_the_photo_at_full_strength() -> None:
    painted, photo = torch.rand(2, 1, 3, 4, 5)
    assert torch.allclose(Blend(1)(painted, photo, torch.tensor([[1.0, 0.0]])), painted, atol=1e-6)


def test_strength_0_is_the_photo_itself(photo: Tensor) -> None:
    net = random_net(2)
    assert torch.equal(to_bytes(repaint(net, photo, [0.4, 0.6], 0.0)), to_bytes(photo))
    assert not torch.equal(to_bytes(repaint(net, photo, [0.4, 0.6], 0.1)), to_bytes(photo))


def test_styles_do_not_mix(photo: Tensor) -> None:
    """What another style's rows hold changes nothing, bit for bit; nor does the photo's row at full strength."""
    net = random_net(3)
    alone = repaint(net, photo, [0, 1, 0])
    weaker = repaint(net, photo, [0, 1, 0], 0.5)
    for rows in style_rows(net):
        rows.data[[0, 2]] = torch.randn_like(rows[[0, 2]])
    assert torch.equal(repaint(net, photo, [0, 1, 0]), alone)
    assert torch.equal(repaint(net, photo, [0, 1, 0], 0.5), weaker)
    for rows in style_rows(net):
        if len(rows) == 4:
            rows.data[3] = torch.randn_like(rows[3])
    assert torch.equal(repaint(net, photo, [0, 1, 0]), alone)
    assert not torch.equal(repaint(net, photo, [0, 1, 0], 0.5), weaker), "here the photo's row counts"
    for rows in style_rows(net):
        rows.data[1] = torch.randn_like(rows[1])
    assert not torch.equal(repaint(net, photo, [0, 1, 0]), alone)


@pytest.mark.parametrize("family", ["lowres", "johnson"])
def test_weights_are_scaled_to_a_sum_of_1_and_the_first_style_is_the_default(photo: Tensor, family: str) -> None:
    net = random_net(2, family)
    assert torch.equal(repaint(net, photo), repaint(net, photo, [1.0, 0.0], 1.0))
    assert torch.equal(repaint(net, photo, [1, 3]), repaint(net, photo, [0.25, 0.75]))
    assert torch.equal(repaint(net, photo, torch.tensor([1.0, 3.0])), repaint(net, photo, [1, 3]))
    assert not torch.equal(repaint(net, photo, [0, 1]), repaint(net, photo, [1, 0]))


def test_the_mixture_says_how_much_of_each_row_there_is() -> None:
    net = random_net(2)
    assert net.mixture().tolist() == [[1, 0, 0]]
    assert torch.allclose(net.mixture([1, 3], 0.5), torch.tensor([[0.125, 0.375, 0.5]]))
    assert random_net(2, "johnson").mixture([0, 2]).tolist() == [[0, 1]], "there is no row for the photo"


@pytest.mark.parametrize("family", ["lowres", "johnson"])
def test_a_net_of_some_of_the_styles_of_another(photo: Tensor, family: str) -> None:
    net = random_net(3, family)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    chosen = with_rows(net, [2, 0, 2, 2])
    assert chosen.config == replace(net.config, styles=4)
    strengths = (1.0, 0.5) if family == "lowres" else (1.0,)
    for strength in strengths:
        for place, style in enumerate([2, 0, 2, 2]):
            theirs = repaint(net, photo, [float(style == index) for index in range(3)], strength)
            ours = repaint(chosen, photo, [float(place == index) for index in range(4)], strength)
            assert torch.equal(ours, theirs)
    for rows in style_rows(chosen):
        rows.data.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items()), "it is a copy"


def test_all_other_parameters_are_shared() -> None:
    one, three = random_net(1), random_net(3)
    rows = {id(parameter) for parameter in style_rows(three)}
    grown = dict(three.named_parameters())
    assert all(
        len(grown[name]) == len(parameter) + 2 if id(grown[name]) in rows else grown[name].shape == parameter.shape
        for name, parameter in one.named_parameters()
    )
    extra = sum(map(torch.numel, three.parameters())) - sum(map(torch.numel, one.parameters()))
    assert extra < 0.1 * sum(map(torch.numel, one.parameters())), "a style more costs little"
