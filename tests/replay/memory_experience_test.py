"""Tests of experience drawn from memory."""

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.agents import data_converter
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from parl_tf import types
from parl_tf.replay import episode_writer
from parl_tf.replay import experience
from parl_tf.replay import memory_experience

_ONLINE_ID = 1000


def _episode(episode_id, num_steps=20, terminal=True):
  """Returns an episode; observation (id, t), reward t."""
  steps = np.arange(num_steps + 1, dtype=np.float32)
  discount = np.ones(num_steps, np.float32)
  discount[-1] = 0.0 if terminal else 1.0
  return types.Episode(
      observation=np.stack([np.full_like(steps, episode_id), steps], axis=1),
      action=np.full((num_steps, 2), 0.25, np.float32),
      reward=steps[:-1],
      discount=discount,
      success=np.zeros(num_steps, np.bool_),
      episode_id=episode_id,
  )


def _source(num_offline=3, num_online=0, seed=0, **kwargs):
  """Returns a source and the writer of its tables."""
  source = memory_experience.MemoryExperience(
      seed=seed, reward_scale=2.0, reward_bias=-1.0, **kwargs
  )
  writer = episode_writer.EpisodeWriter(
      gamma=0.5, reward_scale=2.0, reward_bias=-1.0,
      never_succeeds_value=None, sink=source,
  )
  for index in range(num_offline):
    writer.write('offline', _episode(index))
  for index in range(num_online):
    writer.write('online', _episode(_ONLINE_ID + index))
  return source, writer


_REQUEST = experience.ExperienceRequest(
    critic_slices=2,
    critic_batch_size=6,
    critic_offline_fraction=0.5,
    policy_slices=1,
    policy_batch_size=7,
    cloning_batch_size=3,
)


def _is_online(part):
  """Returns `[rows]` bool, whether each row is from an online episode."""
  return part.policy_info['episode_id'].numpy()[:, 0] >= _ONLINE_ID


def _all_equal(elements, others):
  """Returns whether two lists of experience are equal."""
  pairs = list(zip(tf.nest.flatten(elements), tf.nest.flatten(others)))
  return len(elements) == len(others) and all(
      np.array_equal(leaf, other) for leaf, other in pairs
  )


class SamplingTest(parameterized.TestCase):

  def test_yields_exactly_the_steps_with_static_shapes(self):
    source, _ = _source(num_online=1)
    iterator = source.iterate(5, 4, _REQUEST)
    spec = iterator.element_spec
    self.assertEqual(spec.critic.observation.shape, [12, 2, 2])
    self.assertEqual(spec.policy.reward.shape, [7, 2])
    self.assertEqual(spec.cloning.action.shape, [3, 2, 2])
    self.assertEqual(spec.critic.step_type.dtype, tf.int32)
    self.assertEqual(spec.critic.reward.dtype, tf.float32)
    elements = list(iterator)
    self.assertLen(elements, 4)
    self.assertIsInstance(elements[0], types.Experience)
    self.assertIsInstance(elements[0].critic, trajectory.Trajectory)

  def test_parts_without_rows_are_empty(self):
    source, _ = _source()
    request = experience.ExperienceRequest(cloning_batch_size=4)
    element = next(source.iterate(0, 1, request))
    self.assertEqual(element.critic, ())
    self.assertEqual(element.policy, ())

  def test_split_calls_draw_the_same_rows(self):
    source, _ = _source(num_online=2)
    whole = list(source.iterate(0, 10, _REQUEST))
    split = list(source.iterate(0, 5, _REQUEST)) + list(
        source.iterate(5, 5, _REQUEST)
    )
    self.assertTrue(_all_equal(whole, split))
    self.assertFalse(_all_equal(whole[:1], whole[1:2]))

  def test_blocks_draw_the_same_rows(self):
    source, _ = _source(num_online=2)
    whole = list(source.iterate(3, 10, _REQUEST))
    in_blocks, _ = _source(num_online=2, max_block_bytes=10_000)
    iterator = in_blocks.iterate(3, 10, _REQUEST)
    self.assertEqual(
        iterator.element_spec, source.iterate(0, 1, _REQUEST).element_spec
    )
    self.assertTrue(_all_equal(whole, list(iterator)))

  def test_seed_part_slice_and_size_draw_differently(self):
    request = experience.ExperienceRequest(
        critic_slices=2, critic_batch_size=32,
        policy_slices=1, policy_batch_size=32, policy_offline_fraction=1.0,
    )
    source, _ = _source()
    other, _ = _source(seed=1)
    element = next(source.iterate(0, 1, request))
    rows = element.critic.observation.numpy()
    self.assertFalse(np.array_equal(rows[:32], rows[32:]))
    self.assertFalse(
        np.array_equal(rows[:32], element.policy.observation.numpy())
    )
    self.assertFalse(
        _all_equal([element], [next(other.iterate(0, 1, request))])
    )
    halved = request._replace(critic_batch_size=16)
    half = next(source.iterate(0, 1, halved)).critic.observation.numpy()
    self.assertFalse(np.array_equal(rows[:16], half[:16]))

  def test_all_transitions_are_equally_likely(self):
    source, _ = _source(num_offline=2)
    request = experience.ExperienceRequest(
        critic_slices=1, critic_batch_size=400
    )
    counts = np.zeros(40)
    for element in source.iterate(0, 100, request):
      first = element.critic.observation.numpy()[:, 0]
      np.add.at(counts, (first[:, 0] * 20 + first[:, 1]).astype(int), 1)
    # 40,000 draws over 40 transitions: 1000 each, standard deviation 31.
    self.assertLess(np.abs(counts - 1000).max(), 5 * 31)

  def test_iterator_does_not_retrace(self):
    source, _ = _source(num_online=1)
    traces = []

    @tf.function
    def consume(iterator, num_steps):
      traces.append(1)
      total = 0.0
      for _ in tf.range(num_steps):
        total += tf.reduce_sum(next(iterator).critic.reward)
      return total

    for step in range(3):
      consume(source.iterate(step, 2 + step, _REQUEST), tf.constant(2 + step))
    self.assertLen(traces, 1)

  def test_changing_the_tables_stops_an_unfinished_iterator(self):
    source, writer = _source(num_online=1, max_block_bytes=10_000)
    iterator = source.iterate(0, 100, _REQUEST)
    writer.write('online', _episode(_ONLINE_ID + 1))
    with self.assertRaisesRegex(tf.errors.OpError, 'tables changed'):
      list(iterator)


class FractionTest(parameterized.TestCase):

  def test_slices_hold_exact_fractions_offline_first(self):
    source, _ = _source(num_online=1)
    for element in source.iterate(0, 20, _REQUEST):
      np.testing.assert_array_equal(
          _is_online(element.critic).reshape(2, 6),
          [[False] * 3 + [True] * 3] * 2,
      )
      self.assertFalse(_is_online(element.cloning).any())

  @parameterized.parameters((None, None, 0.25), (0.5, 2, 0.4), (0.5, 10, 0.5))
  def test_shares_by_sizes_and_weight(self, fraction, weight, share):
    source, _ = _source(num_offline=3, num_online=1)
    request = experience.ExperienceRequest(
        1, 10_000, fraction, critic_max_online_weight=weight
    )
    part = next(source.iterate(0, 1, request)).critic
    online = _is_online(part)
    # 60 and 20 transitions, 10,000 draws; standard deviation at most 0.005.
    self.assertAlmostEqual(online.mean(), share, delta=5 * 0.005)
    # 20 steps, of the mean 9.5 and the standard deviation 5.8.
    steps = part.observation.numpy()[online, 0, 1]
    self.assertAlmostEqual(steps.mean(), 9.5, delta=5 * 5.8 / 2_500**0.5)
    self.assertLen(np.unique(steps), 20)

  def test_union_needs_only_one_table(self):
    source, _ = _source(num_offline=0, num_online=1)
    request = experience.ExperienceRequest(
        policy_slices=1, policy_batch_size=8
    )
    part = next(source.iterate(0, 1, request)).policy
    self.assertTrue(_is_online(part).all())

  def test_fraction_of_one_draws_no_online_rows(self):
    source, _ = _source(num_online=0)
    request = _REQUEST._replace(critic_offline_fraction=1.0)
    element = next(source.iterate(0, 1, request))
    self.assertFalse(_is_online(element.critic).any())

  def test_needed_empty_table_is_named(self):
    source, _ = _source(num_online=0)
    with self.assertRaisesRegex(ValueError, '`critic` needs .*`online`'):
      source.iterate(0, 1, _REQUEST)


class RowsTest(parameterized.TestCase):

  def test_rows_are_two_consecutive_steps(self):
    source, _ = _source(num_online=2)
    part = next(source.iterate(0, 1, _REQUEST)).critic
    observation = part.observation.numpy()
    np.testing.assert_array_equal(observation[:, 0, 0], observation[:, 1, 0])
    np.testing.assert_array_equal(
        observation[:, 0, 1] + 1, observation[:, 1, 1]
    )
    np.testing.assert_array_equal(
        part.policy_info['step_index'].numpy(), observation[..., 1]
    )
    np.testing.assert_array_equal(
        part.policy_info['episode_id'].numpy(), observation[..., 0]
    )

  @parameterized.parameters((True, 0.0), (False, 1.0))
  def test_as_transition_reads_the_rows(self, terminal, last_discount):
    source, writer = _source(num_offline=0)
    writer.write('offline', _episode(7, num_steps=2, terminal=terminal))
    request = experience.ExperienceRequest(
        critic_slices=1, critic_batch_size=16
    )
    rows = next(source.iterate(0, 1, request)).critic
    context = data_converter.DataContext(
        time_step_spec=ts.time_step_spec(tf.TensorSpec([2], tf.float32)),
        action_spec=tf.TensorSpec([2], tf.float32),
        info_spec={'monte_carlo_return': tf.TensorSpec([], tf.float32)},
    )
    transition = data_converter.AsTransition(context, squeeze_time_dim=True)(
        rows
    )
    time_step, action_step, next_time_step = transition
    step = time_step.observation.numpy()[:, 1]
    self.assertContainsSubset([0.0, 1.0], step)
    is_last = step == 1
    np.testing.assert_array_equal(next_time_step.observation[:, 1], step + 1)
    # r = 2 t - 1 for t = 0, 1.
    np.testing.assert_array_equal(
        next_time_step.reward, np.where(is_last, 1.0, -1.0)
    )
    np.testing.assert_array_equal(
        next_time_step.discount, np.where(is_last, last_discount, 1.0)
    )
    np.testing.assert_array_equal(next_time_step.is_last(), is_last)
    np.testing.assert_array_equal(time_step.is_first(), ~is_last)
    # G_1 = 1, G_0 = -1 + 0.5 * 1.
    np.testing.assert_array_equal(
        action_step.info['monte_carlo_return'], np.where(is_last, 1.0, -0.5)
    )

  def test_evicted_steps_are_not_drawn(self):
    source, _ = _source(num_offline=3, capacity=30)
    self.assertEqual(source.num_transitions('offline'), 30)
    request = experience.ExperienceRequest(
        critic_slices=1, critic_batch_size=500
    )
    part = next(source.iterate(0, 1, request)).critic
    first = part.observation.numpy()[:, 0]
    # Of three episodes of 20, the last 10 transitions of number 1 are left.
    self.assertEqual(first[:, 0].min(), 1)
    self.assertEqual(first[first[:, 0] == 1, 1].min(), 10)

  def test_a_dataset_beyond_the_capacity_is_refused(self):
    source, _ = _source(num_offline=0, capacity=30)
    source.check_fits(30)
    with self.assertRaisesRegex(
        ValueError, '`MemoryExperience.capacity` must.* 31 transitions.*got 30'
    ):
      source.check_fits(31)

  def test_images_and_mappings_keep_their_dtypes(self):
    source, writer = _source(num_offline=0)
    episode = _episode(0, num_steps=3)
    episode = episode._replace(observation={
        'image': np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3),
        'state': episode.observation,
    })
    writer.write('offline', episode)
    request = experience.ExperienceRequest(
        critic_slices=1, critic_batch_size=5
    )
    observation = next(source.iterate(0, 1, request)).critic.observation
    self.assertEqual(observation['image'].dtype, tf.uint8)
    self.assertEqual(observation['image'].shape, [5, 2, 2, 2, 3])
    np.testing.assert_array_equal(
        observation['image'][:, 0, 0, 0, 0], 12 * observation['state'][:, 0, 1]
    )


class CandidatesTest(parameterized.TestCase):

  def _set(self, source, table):
    """Sets candidates whose numbers are the index of their step."""
    steps = source.states(table).observation[:, 1]
    source.set_candidates(
        table, np.tile(steps[:, np.newaxis, np.newaxis], (1, 5, 2))
    )

  def test_candidates_join_their_rows_from_both_tables(self):
    source, _ = _source(num_online=1)
    self._set(source, 'offline')
    self._set(source, 'online')
    part = next(source.iterate(0, 1, _REQUEST)).critic
    candidates = part.policy_info['candidate_actions']
    self.assertEqual(candidates.shape, [12, 2, 5, 2])
    np.testing.assert_array_equal(
        candidates[..., 4, 1], part.observation[..., 1]
    )

  def test_candidates_of_one_of_two_tables_are_an_error(self):
    source, _ = _source(num_online=1)
    self._set(source, 'offline')
    with self.assertRaisesRegex(ValueError, r"only \['offline'\] have"):
      source.iterate(0, 1, _REQUEST)
    source.clear_candidates('offline')
    part = next(source.iterate(0, 1, _REQUEST)).critic
    self.assertNotIn('candidate_actions', part.policy_info)

  def test_rows_of_one_table_need_no_candidates_in_the_other(self):
    source, writer = _source(num_online=1)
    self._set(source, 'offline')
    writer.write('online', _episode(_ONLINE_ID + 1))
    request = experience.ExperienceRequest(
        critic_slices=1, critic_batch_size=4
    )
    part = next(source.iterate(0, 1, request)).critic
    self.assertIn('candidate_actions', part.policy_info)


class BadInputTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('nan', dict(reward=np.full(3, np.nan, np.float32)),
       'table `online`: field `reward` must be finite'),
      ('width', dict(observation=np.zeros((3, 5), np.float32)),
       r'field `observation` must be float32 of shape \[2\] at each step, got '
       r'float32 of shape \[5\]'),
      ('dtype', dict(discount=np.ones(3)),
       r'field `discount` must be float32 of shape \[\] at each step, got '
       'float64'),
      ('action', dict(action=np.full((3, 2), -1.5, np.float32)),
       r'field `action` must be in \[-1, 1\], got -1.5'),
      ('length', dict(discount=np.ones(2, np.float32)),
       r'field `discount` must have 3 steps, got shape \[2\]'),
      ('field', dict(policy_info={}), 'missing .*monte_carlo_return'),
  )
  def test_bad_steps_are_an_error_and_nothing_is_inserted(
      self, changes, message
  ):
    source, _ = _source()
    steps = episode_writer.stored_steps(
        _episode(0, num_steps=2),
        gamma=0.5, reward_scale=1.0, reward_bias=0.0,
    )
    with self.assertRaisesRegex(ValueError, message):
      source.add('online', steps._replace(**changes), 2)
    self.assertEqual(source.num_transitions('online'), 0)
    with self.assertRaisesRegex(
        ValueError, r'\[0, 2\] for 3 stored steps, got 3'
    ):
      source.add('online', steps, 3)

  def test_unknown_table_is_an_error(self):
    source, _ = _source()
    with self.assertRaisesRegex(ValueError, "got 'train'"):
      source.num_transitions('train')

  @parameterized.parameters((0, 0), (-1, 1))
  def test_steps_out_of_range_are_an_error(self, train_step, num_steps):
    source, _ = _source(num_online=1)
    with self.assertRaisesRegex(ValueError, 'num_steps'):
      source.iterate(train_step, num_steps, _REQUEST)

  @parameterized.parameters(
      dict(capacity=0), dict(max_block_bytes=0), dict(seed=-1)
  )
  def test_constants_out_of_range_are_an_error(self, **kwargs):
    with self.assertRaisesRegex(ValueError, next(iter(kwargs))):
      _source(**kwargs)


if __name__ == '__main__':
  tf.test.main()
