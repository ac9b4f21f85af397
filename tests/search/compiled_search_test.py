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
_EVERY_LAYER = functools.partial(
    ensemble.CriticEnsemble,
    num_members=3,
    hidden_sizes=(8, 8),
    action_in_every_layer=True,
)


def _make_critic(**kwargs):
  critic = critic_conformance.make(cal_ql.CalQLCritic, **kwargs)
  generator = np.random.default_rng(0)
  for variable in critic.trainable_variables:
    variable.assign_add(0.5 * generator.standard_normal(variable.shape))
  return critic


def _make_search(**kwargs):
  optimizer = action_optimizer.ActionOptimizer(3, 2, 0.1)
  return action_source.Search(_NUM_SAMPLES, optimizer, **kwargs)


class CompiledSearchTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self.observation = critic_conformance.make_observation(_BATCH_SIZE)
    self.actions = critic_conformance.make_actions(_BATCH_SIZE, _NUM_SAMPLES)
    for name, value in dict(_MIN_BYTES=1, _ROWS_PER_PART=24).items():
      patch = mock.patch.object(compiled_search, name, value)
      patch.start()
      self.addCleanup(patch.stop)

  def _run(self, search, critic, dataset_action=None):
    """Returns the candidates, and whether XLA compiles part of the graph."""

    @tf.function(autograph=False)
    def run(observation, actions):
      return search.optimize(
          actions, critic.bind(observation), dataset_action, _SEED
      )

    graph = run.get_concrete_function(self.observation, self.actions).graph
    is_compiled = [
        'XlaMustCompile' in op.node_def.attr
        and op.get_attr('_XlaMustCompile')
        or any(
            '_XlaMustCompile' in f.attr
            for f in graph.as_graph_def().library.function
        )
        for op in graph.get_operations()
    ]
    return run(self.observation, self.actions), any(is_compiled)

  @parameterized.parameters(('mean', True), ('min', False))
  def test_equals_the_plain_search(self, aggregation, with_dataset_action):
    critic = _make_critic(value_aggregation=aggregation)
    dataset_action = None
    if with_dataset_action:
      dataset_action = critic_conformance.make_actions(_BATCH_SIZE, seed=4)
    seen, is_compiled = self._run(_make_search(), critic, dataset_action)
    plain, is_plain_compiled = self._run(
        _make_search(jit_compile=False), critic, dataset_action
    )
    self.assertTrue(is_compiled)
    self.assertFalse(is_plain_compiled)
    self.assertAllClose(seen.values, plain.values, rtol=1e-4, atol=1e-4)
    self.assertAllClose(seen.actions, plain.actions, rtol=1e-3, atol=1e-3)

  def test_equals_the_plain_search_with_actions_in_every_layer(self):
    critic = _make_critic(network_ctor=_EVERY_LAYER)
    seen, is_compiled = self._run(_make_search(), critic)
    plain, _ = self._run(_make_search(jit_compile=False), critic)
    self.assertTrue(is_compiled)
    self.assertAllClose(seen.values, plain.values, rtol=1e-4, atol=1e-4)
    self.assertAllClose(seen.actions, plain.actions, rtol=1e-3, atol=1e-3)

  def test_half_precision_selects_about_as_good_actions(self):
    critic = _make_critic()
    seen, _ = self._run(_make_search(precision='bfloat16'), critic)
    plain, _ = self._run(_make_search(), critic)
    value_fn = critic.bind(self.observation)
    spread = tf.reduce_max(plain.values) - tf.reduce_min(plain.values)
    lost = plain.values[:, 0] - value_fn(seen.actions[:, :1])[:, 0]
    self.assertAllInRange(lost / spread, -0.02, 0.02)
    self.assertNotAllEqual(seen.values, plain.values)

  def test_an_unknown_precision_is_an_error(self):
    with self.assertRaisesRegex(ValueError, "`precision`.*'float16'"):
      _make_search(precision='float16')

  def test_parts_and_calls_share_one_compilation(self):
    critic, search = _make_critic(), _make_search()
    optimizer = search.optimizer
    with mock.patch.object(
        optimizer, 'optimize', wraps=optimizer.optimize
    ) as optimize:
      for _ in range(2):
        self._run(search, critic)
    optimize.assert_called_once()

  def test_the_compiled_search_uses_the_current_weights(self):
    critic, search = _make_critic(), _make_search()
    before, _ = self._run(search, critic)
    for variable in critic.trainable_variables:
      variable.assign(0.5 * variable)
    after, _ = self._run(search, critic)
    self.assertGreater(np.abs(after.values - before.values).max(), 0.01)

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
    compiled = compiled_search.CompiledSearch(None)
    with tf.Graph().as_default():
      critic = critic_conformance.make(cal_ql.CalQLCritic)
      value_fn = critic.bind(critic_conformance.make_observation(4))
      unknown = tf.compat.v1.placeholder(tf.float32, [None, 6, 2])
      self.assertFalse(compiled.is_for(unknown, value_fn))
      known = tf.zeros([4, 6, 2])
      self.assertTrue(compiled.is_for(known, value_fn))
      with mock.patch.object(compiled_search, '_MIN_BYTES', 4 * 4 * 6 * 24 + 1):
        self.assertFalse(compiled.is_for(known, value_fn))


if __name__ == '__main__':
  absltest.main()
