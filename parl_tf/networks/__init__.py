"""Keras networks of critics and policies."""

import tensorflow as tf

from parl_tf.networks import image_networks

# Keras 2 on Python 3.12, the package `tf_keras`, has no version here.
_KERAS_VERSION = getattr(tf.keras, '__version__', '2')
if not _KERAS_VERSION.startswith('2'):
  raise ImportError(
      f'`tf.keras` must be Keras 2, got Keras {_KERAS_VERSION}: import '
      '`parl_tf` before TF-Agents and before any use of `tf.keras`, or set '
      'TF_USE_LEGACY_KERAS=1.'
  )

# Part of the public interface.
random_shift = image_networks.random_shift
