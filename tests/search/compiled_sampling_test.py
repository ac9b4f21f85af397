"""Tests of sampling under XLA and in parts."""

import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow as tf

from parl_tf.policies import diffusion
from parl_tf.policies import edited
from parl_tf.policies import flow
from parl_tf.policies import gaussian
from parl_tf.policies import transformer
from parl_tf.search import action_source
from parl_tf.search import compiled_sampling
from parl_tf.search import xla
from tests import tensor_case
from tests.agents import small_agent

_SEED = (3, 5)


def _make_gaussian():
  return small_agent.make_policy(gaussian.GaussianPolicy)


class CompiledSamplingTest(tensor_case.TensorCase):
  """Tests which policies a search samples under XLA."""

  def _run(self, search, policy):
    """Returns the samples and the number of compiled functions."""
    observation = small_agent.make_transition().time_step.observation
    run = tf.function(
        lambda: search.sample(policy, observation, tf.constant(_SEED)),
        autograph=False,
    )
    return run(), len(search._sampling._functions)

  def test_a_policy_that_requests_it_is_compiled_once(self):
    policy, search = small_agent.make_policy(), action_source.Search(4)
    plain = action_source.Search(4, jit_compile=False)
    seen, num_compiled = self._run(search, policy)
    expected, num_plain = self._run(plain, policy)
    self.assertAllClose(seen, expected, atol=1e-5)
    self.assertEqual((num_compiled, num_plain), (1, 0))
    with mock.patch.object(policy, 'sample', autospec=True) as sample:
      self._run(search, policy)
    sample.assert_not_called()  # The first trace is used again.

  def test_other_policies_are_not_compiled(self):
    _, num_compiled = self._run(action_source.Search(4), _make_gaussian())
    self.assertEqual(num_compiled, 0)

  @parameterized.parameters(small_agent.make_policy, _make_gaussian)
  def test_parts_of_a_large_batch_equal_the_whole(self, make_policy):
    policy = make_policy()
    observation = tf.nest.map_structure(
        lambda x: tf.repeat(x, 512 // x.shape[0], axis=0),
        small_agent.make_transition().time_step.observation,
    )
    search = action_source.Search(4)
    run = tf.function(
        lambda: search.sample(policy, observation, tf.constant(_SEED)),
        autograph=False,
    )
    with mock.patch.object(policy, 'sample', wraps=policy.sample) as sample:
      seen = run()
    sample.assert_called_once()  # Both parts have 256 rows and share a trace.
    self.assertAllClose(
        seen, policy.sample(observation, 4, tf.constant(_SEED)), atol=1e-4
    )  # XLA has its own inverse error function.

  @parameterized.parameters(
      diffusion.DiffusionPolicy, flow.FlowPolicy, transformer.TransformerPolicy
  )
  def test_halves_of_an_acting_policys_samples_equal_the_whole(self, ctor):
    policy = small_agent.make_policy(ctor)
    search = action_source.Search(6)
    with self._min_cost(0.0), mock.patch.object(
        policy, 'sample', wraps=policy.sample
    ) as sample:
      seen = self._act(search, policy)
    sample.assert_called_once()  # Both halves share a trace.
    self.assertEqual(sample.call_args.args[1], 3)
    observation = small_agent.make_transition().time_step.observation
    self.assertAllClose(
        seen, policy.sample(observation, 6, tf.constant(_SEED)), atol=1e-4
    )

  @parameterized.named_parameters(
      ('odd', 5, diffusion.DiffusionPolicy, False),
      ('not_compiled', 6, gaussian.GaussianPolicy, False),
      ('in_a_program', 6, diffusion.DiffusionPolicy, True),
  )
  def test_other_samples_of_an_acting_policy_are_not_halved(
      self, num_samples, ctor, in_program
  ):
    policy = small_agent.make_policy(ctor)
    search = action_source.Search(num_samples)
    with self._min_cost(0.0), mock.patch.object(
        policy, 'sample', wraps=policy.sample
    ) as sample:
      self._act(search, policy, in_program)
    self.assertEqual(sample.call_args.args[1], num_samples)

  def test_samples_of_two_parts_are_not_halved(self):
    # Half of the samples are edits of the others.
    policy = small_agent.make_policy(
        functools.partial(
            edited.EditedPolicy, base_ctor=diffusion.DiffusionPolicy
        )
    )
    self.assertTrue(policy.jit_compile_sampling)
    with self._min_cost(0.0), mock.patch.object(
        policy, 'sample', wraps=policy.sample
    ) as sample:
      self._act(action_source.Search(6), policy)
    self.assertEqual(sample.call_args.args[1], 6)

  def test_another_sample_does_not_inherit_equal_samples(self):
    class Centered(diffusion.DiffusionPolicy):

      def sample(self, *args, **kwargs):
        actions = super().sample(*args, **kwargs)
        return actions - tf.reduce_mean(actions, axis=1, keepdims=True)

    class Renamed(diffusion.DiffusionPolicy):
      pass

    self.assertFalse(Centered.has_equal_samples)
    self.assertTrue(Renamed.has_equal_samples)

  @parameterized.parameters((0, True), (1, False))
  def test_few_states_are_halved_only_if_that_pays(self, num_missing, halved):
    policy = small_agent.make_policy()
    observation = small_agent.make_transition().time_step.observation
    cost = 6.0 * sum(4 * v.shape.num_elements() for v in policy.variables)
    cost *= tf.nest.flatten(observation)[0].shape[0] + num_missing
    expected = policy.sample(observation, 6, tf.constant(_SEED))
    with self._min_cost(cost), mock.patch.object(
        compiled_sampling.CompiledSampling,
        '_in_halves',
        lambda *_: tf.zeros_like(expected),
    ):
      seen = self._act(action_source.Search(6), policy)
    if halved:
      expected = tf.zeros_like(expected)
    self.assertAllClose(seen, expected, atol=1e-4)

  def _min_cost(self, cost):
    return mock.patch.object(compiled_sampling, '_MIN_COST_OF_HALVES', cost)

  def _act(self, search, policy, in_program=False):
    """Samples in a graph for batches of any size."""
    observation = small_agent.make_transition().time_step.observation

    def draw(observation, seed):
      return search.sample(policy, observation, seed)

    if in_program:
      draw = xla.function(draw)
    run = tf.function(
        draw,
        autograph=False,
        # For batches of any size.
        input_signature=[
            tf.nest.map_structure(
                lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype),
                observation,
            ),
            tf.TensorSpec([2], tf.int32),
        ],
    )
    return run(observation, tf.constant(_SEED))

  def test_compiled_samples_use_the_current_weights(self):
    policy, search = small_agent.make_policy(), action_source.Search(4)
    before, _ = self._run(search, policy)
    for variable in policy.variables:
      variable.assign(0.5 * variable)
    after, _ = self._run(search, policy)
    self.assertNotAllEqual(before, after)


if __name__ == '__main__':
  absltest.main()
