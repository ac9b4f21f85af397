"""Scalar values as histograms with Gaussian smoothing (HL-Gauss)."""

import math

import numpy as np
import tensorflow as tf


class HLGauss:
  """Maps returns to categorical targets and categorical logits to returns.

  Farebrother et al. (2024), arXiv:2403.03950, section 3.1: `num_bins` + 1 edges
  at linspace(min, max); p_i is the mass of N(value, sigma^2) in bin i,
  normalized over [min, max]; a distribution's value is sum p_i * center_i.
  """

  def __init__(
      self,
      min_value: float,
      max_value: float,
      num_bins: int,
      sigma_ratio: float = 0.75,
      released_sigma: bool = False,
  ):
    """Initializes the histogram.

    Args:
      min_value: Lowest edge, in units of return.
      max_value: Highest edge.
      num_bins: Number of bins, at least 2.
      sigma_ratio: Standard deviation in bin widths.
      released_sigma: Whether the standard deviation is sqrt(2) times larger, as
        in the authors' released code.

    Raises:
      ValueError: If the interval is empty or a number is out of range.
    """
    if not min_value < max_value:
      raise ValueError(
          '`min_value` must be below `max_value`, got '
          f'{min_value} and {max_value}.'
      )
    if num_bins < 2:
      raise ValueError(f'`num_bins` must be at least 2, got {num_bins}.')
    if sigma_ratio <= 0:
      raise ValueError(f'`sigma_ratio` must be positive, got {sigma_ratio}.')
    edges = np.linspace(min_value, max_value, num_bins + 1)
    self._sigma = sigma_ratio * (edges[1] - edges[0])
    if released_sigma:
      self._sigma *= math.sqrt(2.0)
    # Farther outside, the second bin has less than exp(-100) of the edge bin's
    # mass.
    self._margin = 100.0 * self._sigma * max(
        1.0, self._sigma / (edges[1] - edges[0])
    )
    self.num_bins = num_bins
    self.min_value = float(min_value)
    self.max_value = float(max_value)
    self.edges = tf.constant(edges, tf.float32)
    self.centers = tf.constant((edges[:-1] + edges[1:]) / 2, tf.float32)

  def probabilities(self, values: tf.Tensor) -> tf.Tensor:
    """Computes the target distribution of each value.

    Works in log space, so that values far outside the edges stay finite. The
    mass of a bin is a difference of tails on the side away from the mean, where
    differences do not cancel. Values so far outside that float32 cannot
    distinguish the edges are clipped; the edge bin still has all of their mass.

    Args:
      values: `[...]`, in units of return; may lie outside the edges.

    Returns:
      `[..., bins]` probabilities that sum to 1.
    """
    values = tf.convert_to_tensor(values, tf.float32)
    values = tf.clip_by_value(
        values, self.min_value - self._margin, self.max_value + self._margin
    )
    z = (self.edges - values[..., tf.newaxis]) / self._sigma
    lower, upper = z[..., :-1], z[..., 1:]
    # Bins above the mean use upper tails: mirror them to below the mean.
    is_above = lower + upper > 0
    low = tf.where(is_above, -upper, lower)
    high = tf.where(is_above, -lower, upper)
    log_low = _log_ndtr(low)
    log_high = _log_ndtr(high)
    log_mass = log_high + _log1mexp(log_high - log_low)
    return tf.nn.softmax(log_mass, axis=-1)

  def mean(self, logits: tf.Tensor) -> tf.Tensor:
    """Computes the expected value `[...]` of `logits` `[..., bins]`."""
    # A matrix product would be rounded to TF32 on a GPU.
    return tf.reduce_sum(tf.nn.softmax(logits, axis=-1) * self.centers, axis=-1)

  def cross_entropy(self, logits: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Computes the cross entropy of `logits` against the targets of `values`.

    Args:
      logits: `[..., bins]`.
      values: Returns that broadcast against the leading axes of `logits`.

    Returns:
      `[...]` cross entropy in nats, with the leading axes of `logits`.
    """
    target = self.probabilities(values)
    return -tf.reduce_sum(
        target * tf.nn.log_softmax(logits, axis=-1), axis=-1
    )

  def wide_logits(self, value: float) -> np.ndarray:
    """Returns logits `[bins]` of mean `value`, from which every bin can learn.

    They are those of a Gaussian with a standard deviation of a twentieth of the
    range, at most 10 below the highest. Near an end of the range, which cuts
    the Gaussian off, its center is beyond `value`.

    Args:
      value: In units of return. A mean beyond the outermost bins does not
        exist; the nearest is made.
    """
    span = self.max_value - self.min_value
    places = self.centers.numpy().astype(np.float64)
    low, high = value - span, value + span
    for _ in range(50):  # Bisection, as the mean rises with the center.
      center = 0.5 * (low + high)
      squares = np.square((places - center) / (span / 20.0))
      logits = np.maximum(-0.5 * (squares - np.min(squares)), -10.0)
      is_low = np.average(places, weights=np.exp(logits)) < value
      low, high = (center, high) if is_low else (low, center)
    return logits


def _log_ndtr(x):
  """Computes the log of the standard normal CDF, finite far below 0."""
  x_mid = tf.maximum(x, -5.0)
  mid = tf.math.log(0.5 * tf.math.erfc(-x_mid / math.sqrt(2.0)))
  # Asymptotic series of the tail, with a relative error below 1e-5 at -5.
  x_low = tf.minimum(x, -5.0)
  inverse = 1.0 / tf.square(x_low)
  series = 1.0 - inverse * (
      1.0 - inverse * (3.0 - inverse * (15.0 - inverse * 105.0))
  )
  low = (
      -0.5 * tf.square(x_low)
      - tf.math.log(-x_low)
      - 0.5 * math.log(2.0 * math.pi)
      + tf.math.log(series)
  )
  return tf.where(x < -5.0, low, mid)


def _log1mexp(x):
  """Computes log(1 - exp(-x)) for x > 0."""
  return tf.where(
      x < math.log(2.0),
      tf.math.log(-tf.math.expm1(-x)),
      tf.math.log1p(-tf.exp(-x)),
  )
