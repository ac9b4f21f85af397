"""Checks that an episode is valid and fits the specs of a task."""

import numpy as np
import tree

from parl_tf.replay import checks


def check(episode, observation_spec, action_spec):
  """Raises `ValueError` if an episode is incomplete or does not fit.

  Args:
    episode: Episode from a reader or a recording.
    observation_spec: `dm_env` array spec, or a dict of them.
    action_spec: `dm_env` bounded array spec.
  """
  checks.check_episode('episode', episode)
  tree.map_structure(
      lambda array, spec: spec.validate(array[0]),
      episode.observation,
      observation_spec,
  )
  action_spec.validate(episode.action[0])
  np.testing.assert_array_equal(episode.discount[:-1], 1)
  np.testing.assert_(episode.discount[-1] in (0, 1))
