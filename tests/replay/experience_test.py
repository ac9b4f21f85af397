"""Tests of requests for experience."""

from absl.testing import parameterized
import tensorflow as tf

from parl_tf.replay import experience


class RequestedPartsTest(parameterized.TestCase):

  def test_parts_without_rows_are_empty(self):
    parts = experience.requested_parts(
        experience.ExperienceRequest(critic_slices=2, critic_batch_size=4)
    )
    self.assertEqual(
        parts.critic, experience.PartRequest('critic', 2, 4, 4)
    )
    self.assertEqual(parts.policy, ())
    self.assertEqual(parts.cloning, ())

  def test_cloning_rows_are_offline(self):
    parts = experience.requested_parts(
        experience.ExperienceRequest(cloning_batch_size=6)
    )
    self.assertEqual(
        parts.cloning, experience.PartRequest('cloning', 1, 6, 6)
    )

  @parameterized.parameters((0.5, 6, 3), (0.1, 30, 3), (0.0, 5, 0), (1.0, 5, 5))
  def test_fraction_is_a_number_of_rows(self, fraction, batch_size, rows):
    parts = experience.requested_parts(
        experience.ExperienceRequest(
            policy_slices=1,
            policy_batch_size=batch_size,
            policy_offline_fraction=fraction,
        )
    )
    self.assertEqual(parts.policy.offline_rows, rows)

  @parameterized.named_parameters(
      ('fraction', dict(critic_offline_fraction=0.5, critic_batch_size=5),
       r'got 0.5 \* 5 = 2.5'),
      ('fraction_range', dict(critic_offline_fraction=1.5), 'got 1.5'),
      ('weight', dict(critic_max_online_weight=0.0), 'positive and finite'),
      ('weight_without_fraction', dict(
          critic_offline_fraction=None, critic_max_online_weight=-1.0),
       'positive and finite'),
      ('negative', dict(critic_batch_size=-1), 'got 1 and -1'),
      ('nothing', dict(critic_slices=0), 'at least one row'),
  )
  def test_request_out_of_range_is_an_error(self, changes, message):
    request = experience.ExperienceRequest(
        critic_slices=1, critic_batch_size=4
    )
    with self.assertRaisesRegex(ValueError, message):
      experience.requested_parts(request._replace(**changes))


class NeededTablesTest(parameterized.TestCase):

  @parameterized.parameters(
      (4, 0, 3, ['offline']),
      (0, 3, 0, ['online']),
      (4, 3, 2, ['offline', 'online']),
      (4, 3, None, ['offline', 'online']),
      (4, 0, None, ['offline']),
      (0, 3, None, ['online']),
  )
  def test_tables_of_a_part(self, num_offline, num_online, rows, expected):
    part = experience.PartRequest('critic', 1, rows, 3)
    sizes = {'offline': num_offline, 'online': num_online}
    self.assertEqual(experience.needed_tables(part, sizes), expected)

  @parameterized.parameters(
      (0, 3, 2, '`offline`'), (4, 0, 2, '`online`'), (0, 0, None, 'offline')
  )
  def test_empty_table_is_named(self, num_offline, num_online, rows, message):
    part = experience.PartRequest('critic', 1, rows, 3)
    with self.assertRaisesRegex(ValueError, message):
      experience.needed_tables(
          part, {'offline': num_offline, 'online': num_online}
      )

  def test_limited_online_rows_need_no_online_table(self):
    part = experience.PartRequest('critic', 1, 2, 3, max_online_weight=5.0)
    self.assertEqual(
        experience.needed_tables(part, {'offline': 4, 'online': 0}),
        ['offline'],
    )
    with self.assertRaisesRegex(ValueError, '`offline`'):
      experience.needed_tables(part, {'offline': 0, 'online': 4})


class CountedOnlineTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('in_proportion', None, None, 7, 7.0),
      ('in_proportion_whatever_the_limit', None, 5.0, 7, 7.0),
      ('few', 6, 5.0, 7, 35.0),
      ('none', 6, 5.0, 0, 0.0),
      # A quarter of the rows: a third of the 300 offline transitions.
      ('many', 6, 5.0, 30, 100.0),
      ('without_least_share', 0, 5.0, 3_000, 15_000.0),
  )
  def test_counts(self, offline_rows, weight, num_online, expected):
    part = experience.PartRequest('critic', 1, offline_rows, 8, weight)
    self.assertAlmostEqual(
        experience.counted_online(part, {'offline': 300, 'online': num_online}),
        expected,
    )


if __name__ == '__main__':
  tf.test.main()
