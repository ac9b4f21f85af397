"""Tests of the action search under XLA."""

import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.critics import cal_ql
from parl_tf.networks import ensemble
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import compiled_search
from tests import tensor_case
from tests.critics import critic_conformance

_SEED = tf.constant([3, 5])
_BATCH_SIZE = 12
_NUM_SAMPLES = 6
# The compiled search has the operations of each member.
_NETWORK = functools.partial(
    ensemble.CriticEnsemble, num_members=2, hidden_sizes=(8, 8)
)


def _make_critic(network_ctor=_NETWORK, **kwargs):
  critic = critic_conformance.make(
      cal_ql.CalQLCritic, network_ctor=network_ctor, **kwargs
  )
  generator = np.random.default_rng(0)
  for variable in critic.trainable_variables:
    variable.assign_add(0.5 * generator.standard_normal(variable.shape))
  return critic


def _make_search(**kwargs):
  optimizer = action_optimizer.ActionOptimizer(3, 2, 0.1)
  return action_source.Search(_NUM_SAMPLES, optimizer, **kwargs)


class CompiledSearchTest(tensor_case.TensorCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.observation = critic_conformance.make_observation(_BATCH_SIZE)
    cls.actions = critic_conformance.make_actions(_BATCH_SIZE, _NUM_SAMPLES)
    for name, value in dict(_MIN_BYTES=1, _ROWS_PER_PART=24).items():
      cls.enter_context(mock.patch.object(compiled_search, name, value))
    # Compiled once for all tests.
    cls._critic, cls._search = _make_critic(), _make_search()
    optimizer = cls._search.optimizer
    cls._optimize = cls.enter_context(
        mock.patch.object(optimizer, 'optimize', wraps=optimizer.optimize)
    )
    cls._result, cls._is_compiled = cls._run(cls._search, cls._critic)

  @classmethod
  def _run(cls, search, critic, dataset_action=None):
    """Returns the candidates, and whether XLA compiles part of the graph."""

    @tf.function(autograph=False)
    def run(observation, actions):
      return search.optimize(
          actions, critic.bind(observation), dataset_action, _SEED
      )

    graph = run.get_concrete_function(cls.observation, cls.actions).graph
    is_compiled = any(
        function.attr['_XlaMustCompile'].b
        for function in graph.as_graph_def().library.function
    )
    return run(cls.observation, cls.actions), is_compiled

  def _check_equals_the_plain_search(
      self, seen, is_compiled, critic, dataset_action=None
  ):
    plain, is_plain_compiled = self._run(
        _make_search(jit_compile=False), critic, dataset_action
    )
    self.assertTrue(is_compiled)
    self.assertFalse(is_plain_compiled)
    self.assertAllClose(seen.values, plain.values, rtol=1e-4, atol=1e-4)
    self.assertAllClose(seen.actions, plain.actions, rtol=1e-3, atol=1e-3)

  def test_equals_the_plain_search(self):
    self._check_equals_the_plain_search(
        self._result, self._is_compiled, self._critic
    )

  def test_equals_the_plain_search_of_another_critic(self):
    critic = _make_critic(
        functools.partial(_NETWORK, action_in_every_layer=True),
        value_aggregation='min',
    )
    dataset_action = critic_conformance.make_actions(_BATCH_SIZE, seed=4)
    self._check_equals_the_plain_search(
        *self._run(_make_search(), critic, dataset_action),
        critic,
        dataset_action,
    )

  def test_half_precision_selects_about_as_good_actions(self):
    seen, _ = self._run(_make_search(precision='bfloat16'), self._critic)
    plain = self._result
    value_fn = self._critic.bind(self.observation)
    spread = tf.reduce_max(plain.values) - tf.reduce_min(plain.values)
    lost = plain.values[:, 0] - value_fn(seen.actions[:, :1])[:, 0]
    self.assertAllInRange(lost / spread, -0.02, 0.02)
    self.assertNotAllEqual(seen.values, plain.values)

  def test_an_unknown_precision_is_an_error(self):
    with self.assertRaisesRegex(ValueError, "`precision`.*'float16'"):
      _make_search(precision='float16')

  def test_parts_and_calls_share_one_compilation(self):
    self._run(self._search, self._critic)
    self._optimize.assert_called_once()

  def test_the_compiled_search_uses_the_current_weights(self):
    for variable in self._critic.trainable_variables:
      self.addCleanup(variable.assign, variable.numpy())
      variable.assign(0.5 * variable)
    after, _ = self._run(self._search, self._critic)
    self.assertGreater(np.abs(after.values - self._result.values).max(), 0.01)

  @parameterized.parameters(
      (12, 6, 24, 3),  # 72 candidates: three parts of 24.
      (12, 2, 24, 1),
      (14, 6, 24, 7),  # Four, five and six parts would not be equal.
      (13, 6, 24, 1),  # No number from four to seven divides 13.
  )
  def test_number_of_parts(self, batch_size, num_samples, rows, expected):
    with mock.patch.object(compiled_search, '_ROWS_PER_PART', rows):
      self.assertEqual(
          compiled_search._num_parts(batch_size, num_samples), expected
      )

  def test_small_batches_and_unknown_shapes_are_not_compiled(self):
    compiled = compiled_search.CompiledSearch(None, in_parts=True)
    critic = critic_conformance.make(cal_ql.CalQLCritic)

    @tf.function(autograph=False)
    def check(unknown):
      value_fn = critic.bind(critic_conformance.make_observation(4))
      self.assertFalse(compiled.is_for(unknown, value_fn))
      known = tf.zeros([4, 6, 2])
      self.assertTrue(compiled.is_for(known, value_fn))
      with mock.patch.object(compiled_search, '_MIN_BYTES', 4 * 4 * 6 * 24 + 1):
        self.assertFalse(compiled.is_for(known, value_fn))

    check.get_concrete_function(tf.TensorSpec([None, 6, 2]))


if __name__ == '__main__':
  absltest.main()
