"""Policy-Agnostic RL in TensorFlow and TF-Agents."""

import os
import sys

__version__ = '0.1.0'

# On Python 3.12, `tf.keras` is Keras 3 by default. TF-Agents and our networks
# need Keras 2, the package `tf_keras`. TensorFlow reads this variable when
# `tf.keras` is first used, so import `parl_tf` before TF-Agents.
if sys.version_info >= (3, 12):
  os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
