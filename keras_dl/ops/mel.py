"""The mel scale and its bands."""

import math

import numpy as np


def require_edges(sample_rate, lowest, highest):
    """Checks the limits of mel bands, and returns the upper one.

    Args:
        sample_rate: int, samples per second.
        lowest, highest: float, limits in Hz; `highest` may be None for half the sample rate.

    Returns:
        float, the upper limit.

    Raises:
        ValueError: unless `0 <= lowest < highest <= sample_rate / 2`: a recording has no higher frequencies.

    Example:

    >>> require_edges(8000, 60.0, None)
    4000.0
    """
    nyquist = sample_rate / 2
    highest = nyquist if highest is None else highest
    if not 0 <= lowest < highest <= nyquist:
        raise ValueError(
            f"Expected 0 <= lowest < highest <= {nyquist:g} Hz, half the sample rate. Received: lowest={lowest}, "
            f"highest={highest}"
        )
    return highest


def mel(hertz):
    """Returns frequencies on the mel scale, `1127 log(1 + f / 700)`.

    Example:

    >>> round(float(mel(1000.0)))
    1000
    """
    return 1127 * np.log1p(np.asarray(hertz, "float64") / 700)


def mel_filters(bins, bands, sample_rate, lowest, highest):
    """Returns the weights of the bins of a power spectrum in triangular mel bands, whose peaks are 1.

    Args:
        bins: int, bins from 0 Hz to half the sample rate.
        bands: int.
        sample_rate: int, samples per second.
        lowest, highest: float, limits of the bands in Hz.

    Returns:
        float64 array `[bins, bands]`. A band narrower than the distance between two bins may have no weights.

    Example:

    >>> mel_filters(129, 40, 8000, 60.0, 4000.0).shape
    (129, 40)

    Reference: Young et al. 2006, "The HTK book", section 5.4; the weights of the bin at 0 Hz are 0.
    """
    edges = np.linspace(mel(lowest), mel(highest), bands + 2)
    places = mel(np.linspace(0, sample_rate / 2, bins))[:, None]
    width = edges[1] - edges[0]
    weights = np.maximum(1 - np.abs(places - edges[1:-1]) / width, 0)
    weights[0] = 0
    return weights


def band_limits(band, bands, lowest, highest):
    """Returns the lower and upper limit of a band in Hz.

    Example:

    >>> [round(limit) for limit in band_limits(0, 40, 60.0, 4000.0)]
    [60, 131]
    """
    low, step = float(mel(lowest)), float(mel(highest) - mel(lowest)) / (bands + 1)
    return tuple(700 * math.expm1((low + step * place) / 1127) for place in (band, band + 2))
