"""Tests of how an agent trains on a GPU, run on a CPU."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.critics import td
from parl_tf.improvers import reparameterized
from parl_tf.policies import diffusion
from parl_tf.policies import flow
from parl_tf.policies import gaussian
from parl_tf.search import xla
from tests import tensor_case
from tests.agents import small_agent


def _make_update(on_gpu):
  """Returns a critic's update as a graph, and the critic."""
  with mock.patch.object(xla, 'is_on_gpu', return_value=on_gpu):
    agent = small_agent.make_agent(policy_ctor=gaussian.GaussianPolicy)
  update = tf.function(agent.trained_parts[0].update, autograph=False)
  return update, agent.critic


def _is_xla_program(update, rows, seed):
  """Returns whether the last call in an update's graph is to an XLA program."""
  graph = update.get_concrete_function(rows, seed, None).graph
  [*_, call] = [
      op.node_def
      for op in graph.get_operations()
      if op.type == 'StatefulPartitionedCall'
  ]
  return call.attr['_XlaMustCompile'].b


class GpuTest(tensor_case.TensorCase):

  def test_an_update_is_one_xla_program_that_equals_the_graph(self):
    rows = small_agent.make_rows()
    seed = tf.constant([0, 1])
    results = {}
    for on_gpu in (False, True):
      update, critic = _make_update(on_gpu)
      self.assertEqual(_is_xla_program(update, rows, seed), on_gpu)
      results[on_gpu] = update(rows, seed, None), critic.trainable_variables
    (seen, variables), (expected, others) = results[True], results[False]
    for a, b in zip(tf.nest.flatten(seen), tf.nest.flatten(expected)):
      self.assertAllClose(a, b, rtol=1e-3, atol=1e-4)
    for variable, other in zip(variables, others):
      self.assertAllClose(variable, other, atol=1e-4)

    bad = rows._replace(reward=np.full_like(rows.reward, np.nan))
    with self.assertRaisesRegex(
        tf.errors.InvalidArgumentError, 'critic loss is not finite'
    ):
      update(bad, seed, None)

  @parameterized.parameters(diffusion.DiffusionPolicy, flow.FlowPolicy)
  def test_xla_compiles_the_gradient_through_a_sample(self, policy_ctor):
    with mock.patch.object(xla, 'is_on_gpu', return_value=True):
      agent = small_agent.make_agent(
          policy_ctor=policy_ctor,
          critic_ctor=td.TDCritic,
          improver=reparameterized.ReparameterizedImprover(
              learn_temperature=False, imitation_weight=1.0
          ),
      )
    seed = tf.constant([0, 1])
    [part] = [x for x in agent.trained_parts if x.name == 'policy']
    rows = small_agent.make_rows()
    # Both draw the same actions.
    expected = tf.reduce_mean(
        part.loss(rows, seed, tf.GradientTape()).per_example
    )
    update = tf.function(part.update, autograph=False)

    total, _ = update(rows, seed, None)

    self.assertAllClose(total, expected, rtol=1e-3, atol=1e-4)
    self.assertTrue(_is_xla_program(update, rows, seed))


if __name__ == '__main__':
  absltest.main()
