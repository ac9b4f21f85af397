"""Tests that the searches at s and at s' draw independently."""

from absl.testing import absltest
import tensorflow as tf

from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import state_actions
from tests import tensor_case
from tests.agents import small_agent

_SEED = [0, 7]


def _make_source(critic, **kwargs):
  """Returns a source with the same state and the same samples twice."""
  transition = small_agent.make_transition()
  samples = tf.random.stateless_uniform([8, 1, 4, 2], _SEED, -1.0, 1.0)
  search = action_source.Search(
      4, action_optimizer.ActionOptimizer(2, 2, 0.1), **kwargs
  )
  return state_actions.make_source(
      search,
      small_agent.make_policy(),
      critic,
      transition._replace(next_time_step=transition.time_step),
      tf.constant(_SEED),
      samples=tf.tile(samples, [1, 2, 1, 1]),
  )


class PairedStatesTest(tensor_case.TensorCase):

  def test_both_states_select_independently(self):
    source = _make_source(small_agent.make_critic(), selection='sample')

    here, following = (x.candidates().actions for x in source)
    self.assertAllEqual(here, following)
    here, following = (x.optimized(8).actions for x in source)
    self.assertNotAllEqual(here, following)

  def test_both_states_rank_by_members_of_their_own(self):
    critic, seeds = small_agent.make_critic(), [tuple(_SEED)]
    bind = critic.bind_target

    def bind_target(observation, seed):
      seeds.append(tuple(seed.numpy()))
      return bind(observation, seed)

    critic.bind_target = bind_target
    for actions in _make_source(critic, ranking='target'):
      actions.candidates()
    self.assertLen(set(seeds), 3)


if __name__ == '__main__':
  absltest.main()
