"""Colours of a photo kept: luminance, chrominance and linear matching, recomputed in float64."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from faststyle.colors import keep_chrominance, luminance, match_colors, match_luminance

YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


def photo(height=23, width=31, low=0, high=256, seed=0):
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), np.uint8)


def tinted(height, width, mean, matrix, seed):
    """Pixels spread around a colour, each channel a mixture of the same three noises; nothing is clipped."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (height, width, 3))
    pixels = np.asarray(mean) + noise @ np.asarray(matrix).T
    assert pixels.min() > 0 and pixels.max() < 255
    return np.rint(pixels).astype(np.uint8)


WARM = ([150, 110, 70], [[30, 5, 0], [20, 32, 0], [5, 6, 29]])
COLD = ([90, 120, 160], [[12, 0, 4], [3, 15, -6], [10, 8, 20]])


def statistics(picture):
    pixels = picture.reshape(-1, 3).astype(np.float64)
    return pixels.mean(0), np.cov(pixels.T, bias=True)


def test_luminance_is_that_of_yiq():
    picture = photo()
    luma = luminance(picture)
    assert luma.dtype == np.float32 and luma.shape == (23, 31)
    assert np.allclose(luma, (picture / 255.0) @ YIQ[0], atol=1e-6)
    greys = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    assert np.allclose(luminance(greys).ravel() * 255, np.arange(256), atol=1e-4)
    assert luminance(greys).min() == 0 and luminance(greys).max() <= 1


def test_matched_luminance_has_the_targets_mean_and_deviation():
    rng = np.random.default_rng(0)
    luma = rng.uniform(0, 0.3, (20, 30)).astype(np.float32)
    target = rng.uniform(0.4, 0.9, (11, 7)).astype(np.float32)
    result = match_luminance(luma, target)
    assert result.dtype == np.float32 and result.shape == luma.shape
    assert result.mean(dtype=np.float64) == pytest.approx(target.mean(dtype=np.float64), abs=1e-6)
    assert result.std(dtype=np.float64) == pytest.approx(target.std(dtype=np.float64), abs=1e-6)
    assert np.corrcoef(result.ravel(), luma.ravel())[0, 1] == pytest.approx(1)


def test_matched_luminance_stays_in_range():
    luma = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 1]], np.float32)
    result = match_luminance(luma, np.array([[0, 1]], np.float32))
    assert result.max() == 1 and result.min() > 0.3  # unclipped, the outlier would lie at 1.9


def test_a_flat_luminance_takes_the_mean_alone():
    target = np.array([[0.2, 0.8]], np.float32)
    assert np.allclose(match_luminance(np.full((5, 5), 0.1, np.float32), target), 0.5)
    assert np.allclose(match_luminance(target, np.full((5, 5), 0.1, np.float32)), 0.1)
    nearly = np.full((40, 40), 0.1, np.float32)
    nearly[0, 0] = np.nextafter(np.float32(0.1), np.float32(1))
    assert np.allclose(match_luminance(nearly, target), 0.5, atol=1e-4)  # rounding noise is not stretched


def test_chrominance_is_the_photos():
    """I and Q do not differ at all, so the bound of one level of 255 holds with room to spare."""
    picture = photo(60, 70)
    luma = np.random.default_rng(1).uniform(0, 1, (60, 70)).astype(np.float32)
    result = keep_chrominance(luma, picture)
    assert result.dtype == np.uint8 and result.shape == picture.shape
    assert np.abs((result.astype(np.float64) - picture) @ YIQ[1:].T).max() < 0.01  # of YIQ's six digits


def test_the_luminance_is_the_nearest_that_no_channel_is_clipped_for():
    picture = photo(9, 11)
    luma = np.random.default_rng(1).uniform(0, 1, (9, 11)).astype(np.float32)
    result = keep_chrominance(luma, picture)
    for pixel, wanted, got in zip(picture.reshape(-1, 3), luma.ravel(), result.reshape(-1, 3), strict=True):
        shifted = pixel.astype(int) + np.arange(-255, 256)[:, None]
        valid = shifted[(shifted >= 0).all(1) & (shifted <= 255).all(1)]
        nearest = np.abs(valid @ YIQ[0] / 255 - wanted).min()
        assert abs(got @ YIQ[0] / 255 - wanted) == pytest.approx(nearest, abs=1e-6)


def test_muted_colours_take_any_middling_luminance():
    picture = photo(40, 40, 110, 146)
    luma = np.random.default_rng(1).uniform(0.2, 0.8, (40, 40)).astype(np.float32)
    assert np.abs(luminance(keep_chrominance(luma, picture)) - luma).max() <= 0.5 / 255 + 1e-6


def test_saturated_pixels_stay_as_they_are():
    picture = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 31]]], np.uint8)
    for level in (0, 0.5, 1):
        assert np.array_equal(keep_chrominance(np.full((1, 5), level, np.float32), picture), picture)


def test_a_grey_photo_gives_a_grey_picture():
    luma = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    grey = np.repeat(photo(3, 4)[..., :1], 3, axis=2)
    expected = np.rint(luma.astype(np.float64) * 255)
    assert np.abs(keep_chrominance(luma, grey) - expected[..., None]).max() <= 1e-9


def test_its_own_luminance_gives_the_photo_back():
    for picture in (photo(), photo(1, 1), np.full((4, 5, 3), 200, np.uint8)):
        assert np.array_equal(keep_chrominance(luminance(picture), picture), picture)


def test_a_luminance_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1\)"):
        keep_chrominance(np.zeros((1, 1), np.float32), photo())


def test_matched_colours_have_the_targets_mean_and_covariance():
    source, target = tinted(301, 300, *WARM, seed=0), tinted(150, 200, *COLD, seed=1)  # more pixels than one block
    result = match_colors(source, target)
    assert result.dtype == np.uint8 and result.shape == source.shape
    mean, covariance = statistics(result)
    wanted_mean, wanted_covariance = statistics(target)
    assert np.allclose(mean, wanted_mean, atol=0.02)
    # Rounding adds a twelfth of a squared level; the ridge, 1e-5 on a scale to 1, takes its share of every variance.
    share = 1e-5 * 255**2 / np.linalg.eigvalsh(statistics(source)[1])[0]
    assert share < 0.01
    assert np.linalg.norm(covariance - wanted_covariance, 2) < share * np.linalg.norm(wanted_covariance, 2) + 0.2


def test_the_matrix_is_the_product_of_symmetric_roots():
    def root(matrix):
        left, values, _ = np.linalg.svd(matrix)
        return left * np.sqrt(values) @ left.T

    source, target = tinted(120, 130, *WARM, seed=0), tinted(90, 80, *COLD, seed=1)
    centred = source.reshape(-1, 3) - source.reshape(-1, 3).mean(0)
    result = match_colors(source, target).reshape(-1, 3)
    matrix = np.linalg.lstsq(centred, result - result.mean(0), rcond=None)[0].T
    expected = root(statistics(target)[1]) @ np.linalg.inv(root(statistics(source)[1]))
    assert np.abs(matrix - expected).max() < 0.01


def test_a_picture_matched_to_itself_is_unchanged():
    picture = tinted(100, 90, *WARM, seed=0)
    assert np.abs(match_colors(picture, picture).astype(int) - picture).max() <= 1


def test_a_grey_picture_does_not_blow_up():
    ramp = np.repeat(np.linspace(60, 190, 2000).astype(np.uint8), 3).reshape(40, 50, 3)
    target = tinted(100, 90, *COLD, seed=1)
    result = match_colors(ramp, target)
    mean, covariance = statistics(result)
    assert np.allclose(mean, statistics(target)[0], atol=0.5)
    assert np.trace(covariance) <= np.trace(statistics(target)[1])
    assert np.linalg.eigvalsh(covariance)[1] < 0.5  # still a line of colours, rounded


def test_a_grey_target_gives_a_grey_picture():
    ramp = np.repeat(np.linspace(60, 190, 2000).astype(np.uint8), 3).reshape(40, 50, 3)
    result = match_colors(tinted(100, 90, *WARM, seed=0), ramp).astype(int)
    assert np.ptp(result, axis=2).max() <= 1 and result.std() > 20


@pytest.mark.parametrize("shape", [(1, 1), (6, 7)])
def test_flat_pictures_take_or_give_the_mean(shape):
    flat = np.empty((*shape, 3), np.uint8)
    flat[:] = (10, 250, 90)
    target = tinted(50, 50, *COLD, seed=1)
    mean = np.rint(statistics(target)[0])
    assert np.array_equal(match_colors(flat, target), np.broadcast_to(mean, flat.shape))
    assert np.array_equal(match_colors(target, flat), np.broadcast_to(flat[0, 0], target.shape))


def test_what_exceeds_the_range_is_clipped():
    source = np.full((10, 10, 3), 128, np.uint8)
    source[0, 0] = 255  # an outlier of a picture that is flat otherwise
    checks = np.zeros((2, 2, 3), np.uint8)
    checks[0] = 255
    result = match_colors(source, checks)
    assert (result[0, 0] == 255).all() and (result[1:] < 128).all()


def test_no_float_copy_of_a_large_picture_is_made():
    picture = photo(1000, 1000)
    tracemalloc.start()
    match_colors(picture, picture)
    matched = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    keep_chrominance(luminance(picture), picture)
    kept = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert matched < 2 * picture.nbytes  # the result, and a few blocks
    assert kept < 8 * picture.nbytes
