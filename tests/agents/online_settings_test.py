"""Tests of what an agent keeps and changes between phases and processes."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import iql
from parl_tf.policies import gaussian
from parl_tf.training import schedules
from tests import eager
from tests import tensor_case
from tests.agents import small_agent


def _make_agent(**kwargs):
  """Returns an agent with small graphs, whose search only ranks."""
  search = small_agent.make_search(num_samples=2, num_gradient_steps=0)
  return small_agent.make_agent(
      iql.IQLCritic, gaussian.GaussianPolicy, search=search, **kwargs
  )


def _moved(variables, before):
  return [
      v for v, x in zip(variables, before, strict=True)
      if not np.array_equal(v, x)
  ]


class OnlineSettingsTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    rows = small_agent.make_rows()
    self._cloning = types.Experience(cloning=rows)
    self._both = types.Experience(critic=rows, policy=rows)

  def test_checkpoints_have_all_that_training_changes(self):
    agent = _make_agent()
    saved = {
        v.ref()
        for item in agent.checkpoint_items.values()
        for v in getattr(item, 'variables', [item])
    }
    before = [v.numpy() for v in agent.variables]
    for experience in self._cloning, self._both:
      agent.train(experience)

    moved = {v.ref() for v in _moved(agent.variables, before)}
    self.assertNotEmpty(moved)
    self.assertContainsSubset(moved, saved)

  def test_the_online_phase_has_its_own_learning_rates(self):
    agent = _make_agent(
        optimizer_ctor=lambda: tf.keras.optimizers.Adam(
            schedules.RateByPhase(offline=0.0, online=0.1)
        )
    )
    parts = agent.critic, agent.generative_policy
    before = [[v.numpy() for v in x.trainable_variables] for x in parts]
    agent.train(self._both)
    for part, values in zip(parts, before):
      self.assertEmpty(_moved(part.trainable_variables, values))

    agent.begin_online()
    agent.train(self._both)
    for part, values in zip(parts, before):
      self.assertNotEmpty(_moved(part.trainable_variables, values))

  def test_the_gain_of_a_search_is_that_over_the_mean_sample(self):
    agent = _make_agent()
    rows = small_agent.make_rows()
    observation, action = rows.observation[:, 0], rows.action[:, 0]
    samples = tf.random.stateless_uniform([len(action), 4, 2], [0, 1], -1, 1.0)
    best, gain = agent.best_actions(
        observation, samples, action, tf.constant([3, 5])
    )
    value_fn = agent.critic.bind(observation)

    self.assertAllClose(
        gain,
        value_fn(best[:, tf.newaxis])[:, 0]
        - tf.reduce_mean(value_fn(samples), axis=1),
        atol=1e-6,
    )


if __name__ == '__main__':
  absltest.main()
