"""Tests of the bias of predicted relative to realized returns."""

import os

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.training import value_bias
from tests import tensor_case
from tests.training import small_run


def _episode(num_steps, is_success, seed):
  generator = np.random.default_rng(seed)
  success = np.zeros(num_steps, bool)
  success[-1] = is_success
  return types.Episode(
      observation=generator.normal(size=[num_steps + 1, 4]).astype(np.float32),
      action=generator.uniform(-1, 1, [num_steps, 2]).astype(np.float32),
      reward=success.astype(np.float32),
      discount=1.0 - success.astype(np.float32),
      success=success,
  )


class ValueBiasTest(tensor_case.TensorCase):

  def test_predicted_and_realised_by_hand(self):
    session = small_run.make_session(
        os.path.join(self.create_tempdir().full_path, 'run')
    )
    episodes = [_episode(3, True, 0), _episode(1, False, 1)]
    found = value_bias.start_values(session, episodes)
    # The rewards are -1, -1, 0 in the first episode and -1 in the second.
    expected = (-1.0 - session.agent.gamma - 1.0) / 2.0
    self.assertAllClose(found['values/start_realised'], expected, rtol=1e-5)
    values = session.agent.critic.bind(
        tf.constant([e.observation[0] for e in episodes])
    )(tf.constant([[e.action[0]] for e in episodes]))
    self.assertAllClose(found['values/start'], np.mean(values), rtol=1e-5)


if __name__ == '__main__':
  absltest.main()
