"""Keeping a photo's colours: transfer in luminance alone, and linear colour matching.

After Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer". Pictures are uint8 H x W x 3; a luminance
is float32 H x W in [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LUMA", "keep_chrominance", "luminance", "match_colors", "match_luminance"]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance: Y of YIQ (Rec. 601)."""

_FLAT = 1e-3
"""A luminance whose deviation is below a quarter of a level of 255 counts as flat: stretched, it would be noise."""

_RIDGE = 1e-5 * 255**2
"""Added to a covariance before it is inverted, in squared levels: as in the authors' code, 1e-5 on a scale to 1."""

_BLOCK = 1 << 16
"""Pixels that are worked on at a time, so that float copies of a large picture never exist whole."""


def luminance(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Luminance of a picture: 0.299 R + 0.587 G + 0.114 B, float32 H x W in [0, 1]."""
    # Plane by plane: a matrix product would first make a float copy of the whole picture.
    luma = np.zeros(rgb.shape[:2], np.float32)
    for channel, weight in enumerate(np.array(LUMA, np.float32) / np.float32(255)):
        luma += np.multiply(rgb[..., channel], weight, dtype=np.float32)
    return np.minimum(luma, np.float32(1))


def match_luminance(luma: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shift and scale a luminance to the mean and standard deviation of another, which may be of another size.

    Gatys et al. 2016, section 4. Clipped to [0, 1]; a flat luminance only takes the mean.
    """
    scale = target.std() / luma.std() if luma.std() > _FLAT else np.float32(0)
    result: NDArray[np.float32] = np.clip((luma - luma.mean()) * scale + target.mean(), 0, 1)
    return result


def keep_chrominance(luma: NDArray[np.float32], photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture with the given luminance and the photo's chrominance; uint8 H x W x 3.

    `luma` is float32 H x W in [0, 1], `photo` of the same size; raises ValueError for another. I and Q (YIQ) are the
    photo's exactly: each pixel's three channels move by the same whole number of levels, the nearest to the asked
    luminance at which none of them would have to be clipped. Pure red, green or blue thus stays as it is.
    """
    if luma.shape != photo.shape[:2]:
        raise ValueError(f"a luminance of shape {luma.shape} does not fit a photo of shape {photo.shape}")
    shift = np.rint((luma - luminance(photo)) * np.float32(255)).astype(np.int16)
    # The paper clips the channels of the sum, which changes the hue of saturated pixels.
    darkest, brightest = photo.min(2).astype(np.int16), photo.max(2).astype(np.int16)
    result: NDArray[np.uint8] = (photo + np.clip(shift, -darkest, 255 - brightest)[..., None]).astype(np.uint8)
    return result


def match_colors(rgb: NDArray[np.uint8], target: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Recolour a picture linearly so that its pixels take the mean and covariance of another's; uint8 H x W x 3.

    Gatys et al. 2016, section 3, in the form of Hertzmann et al. 2001: x' = A (x - m) + m_T with A = S_T^1/2 S^-1/2.
    The pictures may be of different sizes. What exceeds the range is clipped; colours that a grey or flat picture does
    not have are not made up.
    """
    mean, covariance = _statistics(rgb)
    target_mean, target_covariance = _statistics(target)
    matrix = _power(target_covariance, 0.5) @ _power(covariance + _RIDGE * np.eye(3), -0.5)
    matrix, offset = matrix.astype(np.float32), (target_mean - matrix @ mean).astype(np.float32)
    result = np.empty((rgb.shape[0] * rgb.shape[1], 3), np.uint8)
    pixels = rgb.reshape(-1, 3)
    for start in range(0, len(pixels), _BLOCK):
        block = slice(start, start + _BLOCK)
        result[block] = np.rint(np.clip(pixels[block].astype(np.float32) @ matrix.T + offset, 0, 255))
    return result.reshape(rgb.shape)


def _statistics(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (3) and covariance (3 x 3) of a picture's pixels, in levels."""
    pixels = rgb.reshape(-1, 3)
    mean = pixels.mean(0, dtype=np.float64)
    covariance = np.zeros((3, 3))
    for start in range(0, len(pixels), _BLOCK):
        centred = pixels[start : start + _BLOCK].astype(np.float32) - mean.astype(np.float32)
        covariance += centred.T @ centred
    return mean, covariance / len(pixels)


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """A power of a symmetric positive matrix, which is symmetric too."""
    values, vectors = np.linalg.eigh(matrix)
    power: NDArray[np.float64] = (vectors * values.clip(0) ** exponent) @ vectors.T
    return power
