"""Policy-Agnostic RL in TensorFlow and TF-Agents."""

import os
import sys
from typing import Any, TYPE_CHECKING

from parl_tf import version

if TYPE_CHECKING:  # See `__getattr__`.
  from parl_tf.agent_maker import make_agent as make_agent

__version__ = version.__version__

# On Python 3.12, `tf.keras` is Keras 3 by default. TF-Agents and our networks
# need Keras 2, the package `tf_keras`. TensorFlow reads this variable when
# `tf.keras` is first used, so import `parl_tf` before TF-Agents.
if sys.version_info >= (3, 12):
  os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')


def __getattr__(name: str) -> Any:
  # Imported on first use, because it needs TensorFlow and TF-Agents.
  if name == 'make_agent':
    from parl_tf import agent_maker

    return agent_maker.make_agent
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
