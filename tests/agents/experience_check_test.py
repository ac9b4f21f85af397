"""Tests of the checks of rows that a caller gives to an agent."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import cal_ql
from tests import eager
from tests.agents import small_agent

# `OBSERVATION_SPEC` may be a nest; these fields are single tensors.
_WRONG = (
    ('reward', lambda x: tf.cast(x, tf.int32), r'float32 of shape \[rows, 2\]'),
    ('reward', lambda x: x[..., tf.newaxis], r'got float32 of .*\(8, 2, 1\)'),
    ('reward', lambda x: x[:, 0], r'float32 of shape \[rows, 2\], got'),
    ('discount', lambda x: (), 'must have the structure'),
    ('action', lambda x: x[..., :1], r'\[rows, 2, 2\], got'),
    ('step_type', lambda x: tf.cast(x, tf.int64), 'must be int32'),
    (
        'next_step_type',
        lambda x: tf.concat([x, x[:, :1]], axis=1),
        r'int32 of shape \[rows, 2\], got int32 of shape \(8, 3\)',
    ),
    ('reward', lambda x: x[:0], r'must have rows, got shape \(0, 2\)'),
)


class ExperienceCheckTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self._agent = small_agent.make_agent()
    self._rows = small_agent.make_rows(8)

  def test_right_rows_pass(self):
    self._agent.train(types.Experience(critic=self._rows))
    self._agent.train(types.Experience(cloning=self._rows))
    arrays = tf.nest.map_structure(lambda x: x.numpy(), self._rows)
    self._agent.train(types.Experience(critic=arrays))
    by_hand = arrays._replace(
        step_type=(),
        observation=tf.nest.map_structure(np.float64, arrays.observation),
    )
    self._agent.train(types.Experience(cloning=by_hand))

  @parameterized.parameters(*_WRONG)
  def test_a_wrong_field_is_named(self, field, change, message):
    wrong = self._rows._replace(**{field: change(getattr(self._rows, field))})
    for part in ('critic', 'policy', 'cloning'):
      with self.assertRaisesRegex(
          ValueError, rf'`experience\.{part}\.{field}` .*{message}'
      ):
        self._agent.train(types.Experience(**{part: wrong}))

  def test_a_bare_trajectory_is_refused(self):
    with self.assertRaisesRegex(
        TypeError, r'`types.Experience\(critic=rows, .* got a Trajectory'
    ):
      self._agent.train(self._rows)
    with self.assertRaisesRegex(TypeError, 'critic` must be .* got a tuple'):
      self._agent.train(types.Experience(critic=(self._rows.reward,)))

  def test_returns_that_a_loss_reads_are_missing(self):
    agent = small_agent.make_agent(cal_ql.CalQLCritic)
    rows = self._rows._replace(policy_info=())
    with self.assertRaisesRegex(
        ValueError, "`policy_info` .*'monte_carlo_return'.*`EpisodeWriter`"
    ):
      agent.train(types.Experience(critic=rows))


if __name__ == '__main__':
  absltest.main()
