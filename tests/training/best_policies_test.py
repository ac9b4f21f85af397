"""Tests that the networks of the best online evaluation are kept."""

import json
import os

from absl import logging
from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.training import best_policies
from tests import eager
from tests.training import small_run


def _metrics(rate, alone=0.5, mean_return=-20.0):
  return {
      **_rates(rate, alone),
      'num_evaluation_episodes': 64,
      'mean_return': mean_return,
      'mean_return_without_search': -30.0,
  }


def _rates(rate, alone=0.5):
  return {
      'success_rate': rate,
      'success_rate_without_search': alone,
      'outcomes': _outcomes(rate),
      'outcomes_without_search': _outcomes(alone),
  }


def _outcomes(rate):
  if rate is None:
    return None
  return ('1' * round(64 * rate)).ljust(64, '0')


class BestPoliciesTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self._root = self.create_tempdir().full_path
    self._agent = small_run.make_agent()
    self._kept = best_policies.BestPolicies(self._root, self._agent)

  def _change(self, step):
    """Adds 1 to all weights."""
    self._agent.train_step_counter.assign(step)
    for variable in self._variables():
      variable.assign_add(tf.ones_like(variable))

  def _weights(self):
    return [variable.numpy() for variable in self._variables()]

  def _variables(self):
    agent = self._agent
    variables = agent.generative_policy.variables + agent.critic.variables
    return [x for x in variables if x.dtype.is_floating]  # No seeds.

  def test_the_best_networks_are_restored_and_the_present_ones_come_back(self):
    self._change(1)
    self._kept.offer(_metrics(0.9), episodes=11)
    best = self._weights()
    self._change(2)
    self._kept.offer(_metrics(0.2), episodes=21)
    present = self._weights()

    self.assertEqual(self._kept.best.episodes, 11)
    self.assertEqual(self._kept.best.train_step, 1)
    self.assertTrue(self._kept.exceeds(_rates(0.2)))
    with self._kept.restored():
      for found, wanted in zip(self._weights(), best, strict=True):
        np.testing.assert_array_equal(found, wanted)
    for found, wanted in zip(self._weights(), present, strict=True):
      np.testing.assert_array_equal(found, wanted)

  def test_a_policy_that_is_better_alone_than_others_with_search_is_kept(self):
    self._kept.offer(_metrics(0.4, alone=0.8), episodes=11)
    self._kept.offer(_metrics(0.5, alone=0.5), episodes=21)
    self._kept.offer(_metrics(0.7, alone=0.4), episodes=31)
    self.assertEqual(self._kept.best.episodes, 11)
    self.assertTrue(self._kept.exceeds(_rates(0.5, 0.4)))
    self.assertFalse(self._kept.exceeds(_rates(0.3, 0.75)))
    self._kept.offer(_metrics(0.9, alone=0.1), episodes=41)
    self.assertEqual(self._kept.best.episodes, 41)

  def test_of_equal_larger_rates_the_other_one_decides(self):
    for rates in ((0.9, 0.5), (0.9, 0.6), (0.9, 0.6), (0.55, 0.9)):
      self._kept.offer(_metrics(*rates), episodes=11)
    self.assertEqual(self._kept.best.success_rate, 0.9)
    self.assertEqual(self._kept.best.success_rate_without_search, 0.6)
    for rates in ((0.5, 0.95), (0.6, 0.95), (0.55, 0.95)):
      self._kept.offer(_metrics(*rates), episodes=11)
    self.assertEqual(self._kept.best.success_rate, 0.6)

  def test_of_equal_rates_the_mean_return_decides(self):
    for episodes, mean_return in ((1, -9.0), (2, -5.0), (3, -5.0), (4, -8.0)):
      self._kept.offer(_metrics(0.9, 0.9, mean_return), episodes)
    self.assertEqual(self._kept.best.episodes, 3)
    self.assertEqual(self._kept.best.mean_return, -5.0)

  def test_a_restarted_run_has_the_best_of_before(self):
    self._kept.offer(_metrics(0.9), episodes=11)
    best = self._weights()
    self._change(2)
    again = best_policies.BestPolicies(self._root, self._agent)
    again.offer(_metrics(0.8), episodes=21)

    self.assertEqual(again.best, self._kept.best)
    with again.restored():
      for found, wanted in zip(self._weights(), best, strict=True):
        np.testing.assert_array_equal(found, wanted)

  def test_a_fall_by_chance_or_a_rise_is_not_exceeded(self):
    self.assertFalse(self._kept.exceeds(_rates(0.2)))
    self._kept.offer(_metrics(0.9), episodes=11)
    for rate in (0.85, 0.9, 0.95):
      self.assertFalse(self._kept.exceeds(_rates(rate)))
    self.assertTrue(self._kept.exceeds(_rates(0.5)))
    self.assertFalse(self._kept.exceeds(_rates(None, alone=None)))

  def test_the_best_of_many_evaluations_must_be_clearer(self):
    self._kept.offer(_metrics(0.9), episodes=11)
    fallen = 0.9 - 8 / 64  # By chance in 1 of 256 cases.
    self.assertTrue(self._kept.exceeds(_rates(fallen), 7))
    self.assertFalse(self._kept.exceeds(_rates(fallen), 8))
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      self._kept.offer(_metrics(fallen), episodes=21, num_evaluations=8)
    with self.assertLogs(logging.get_absl_logger(), 'WARNING'):
      self._kept.offer(_metrics(fallen), episodes=31, num_evaluations=7)

  def test_the_first_fall_since_the_best_is_named_once(self):
    logger = logging.get_absl_logger()
    with self.assertNoLogs(logger, 'WARNING'):
      self._kept.offer(_metrics(0.9), episodes=11)
      self._kept.offer(_metrics(0.85), episodes=21)
    with self.assertLogs(logger, 'WARNING') as logs:
      self._kept.offer(_metrics(0.5), episodes=31)
      self._kept.offer(_metrics(0.4), episodes=41)
    self.assertLen(logs.output, 1)
    self.assertRegex(
        logs.output[0], 'from 90 % after 11 episodes to 50 %.*kept in .*best'
    )
    self._kept.offer(_metrics(1.0), episodes=51)
    with self.assertLogs(logger, 'WARNING') as logs:
      self._kept.offer(_metrics(0.5), episodes=61)
    self.assertIn('from 100 % after 51 episodes', logs.output[0])

  def test_without_a_search_the_policy_counts(self):
    metrics = _metrics(None, alone=0.9)
    del metrics['success_rate']
    self._kept.offer(metrics, episodes=11)
    self.assertEqual(self._kept.best.success_rate, 0.9)
    self.assertTrue(self._kept.exceeds(_rates(None, alone=0.2)))

  def test_a_damaged_description_is_ignored_and_replaced(self):
    self._kept.offer(_metrics(0.9), episodes=11)
    with open(os.path.join(self._root, 'best', 'best.json'), 'w') as file:
      file.write('{"episodes":')
    with self.assertLogs(logging.get_absl_logger(), 'ERROR') as logs:
      again = best_policies.BestPolicies(self._root, self._agent)
    self.assertIn('best.json is damaged', logs.output[0])
    self.assertIsNone(again.best)
    again.offer(_metrics(0.1), episodes=21)
    self.assertEqual(
        best_policies.BestPolicies(self._root, self._agent).best.episodes, 21
    )

  def test_a_failed_write_keeps_the_previous_best(self):
    self._kept.offer(_metrics(0.5), episodes=11)
    # A file where the new networks would be written.
    with open(os.path.join(self._root, 'best.partial'), 'w') as file:
      file.write('')
    with self.assertLogs(logging.get_absl_logger(), 'ERROR') as logs:
      self._kept.offer(_metrics(0.9), episodes=21)
    self.assertIn('Cannot write', logs.output[0])
    self.assertEqual(self._kept.best.episodes, 11)

  def _read_again_without(self, field):
    self._kept.offer(_metrics(0.9), episodes=11)
    path = os.path.join(self._root, 'best', 'best.json')
    with open(path, encoding='utf-8') as file:
      fields = json.load(file)
    del fields[field]
    with open(path, 'w', encoding='utf-8') as file:
      json.dump(fields, file)
    return best_policies.BestPolicies(self._root, self._agent)

  def test_a_best_of_a_version_without_returns_is_not_kept(self):
    self.assertIsNone(self._read_again_without('mean_return').best)

  def test_a_best_of_a_version_without_outcomes_is_kept_but_not_compared(self):
    again = self._read_again_without('outcomes')
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      again.offer(_metrics(0.2), episodes=21)
    self.assertEqual(again.best.episodes, 11)
    self.assertFalse(again.exceeds(_rates(0.2)))


if __name__ == '__main__':
  absltest.main()
