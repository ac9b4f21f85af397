"""Tests of what a watched search records and draws."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.binaries import watched_search
from parl_tf.search import action_source
from tests import small_images
from tests import tensor_case

_SEED = np.array([3, 4], np.int32)


class WatchedSearchTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    small_images.bind_encoder(self)

  def _observation(self):
    return tf.nest.map_structure(
        lambda x: x.numpy(), small_images.make_observation(5)
    )

  def test_it_acts_like_the_agent_and_knows_the_values(self):
    agent = small_images.make_agent()
    act = watched_search.WatchedSearch(agent)
    act.make_panel(100)
    observation = self._observation()
    actions = act(observation, _SEED)
    self.assertEqual(actions.shape, (5, 1, 2))
    self.assertAllEqual(
        actions[:, 0],
        agent.evaluation_policy.act(
            tf.nest.map_structure(tf.constant, observation), tf.constant(_SEED)
        ),
    )
    (decision,) = act.decisions
    search = agent.searches.evaluation
    self.assertLen(decision.sample_values, search.num_samples)
    self.assertLen(
        decision.candidate_values, search.optimizer.num_candidates
    )
    # The action is one of the candidates, and the search improves the samples.
    self.assertLess(
        np.abs(decision.candidate_values - decision.value).min(), 1e-5
    )
    self.assertGreaterEqual(
        decision.candidate_values[0], decision.sample_values.max() - 1e-5
    )

  def test_it_records_images_and_draws_a_panel_for_each_decision(self):
    act = watched_search.WatchedSearch(small_images.make_agent())
    observation = self._observation()
    act(observation, _SEED)
    self.assertEmpty(act.decisions)  # Nobody watches.
    panel = act.make_panel(200)
    self.assertEqual(panel.draw().shape, (200, 200, 3))
    act(observation, _SEED)
    gripper, static = act.decisions[0].images
    self.assertAllEqual(
        gripper, observation['gripper'][0].repeat(3, axis=-1)
    )
    self.assertAllEqual(static, observation['static'][0])
    first = panel.draw()
    self.assertIs(panel.draw(), first)
    act(observation, _SEED)
    self.assertNotAllEqual(panel.draw(), first)

  @parameterized.parameters(True, False)
  def test_a_run_without_search_is_an_error(self, has_critic):
    agent = small_images.make_agent()
    if has_critic:
      agent._searches = agent.searches._replace(  # pylint: disable=protected-access
          evaluation=action_source.Search(num_samples=1)
      )
    else:
      agent.critic = None
    with self.assertRaisesRegex(
        ValueError, 'a critic and `Search.optimizer`.*--policy'
    ):
      watched_search.WatchedSearch(agent)


if __name__ == '__main__':
  tf.test.main()
