"""Tests of training on two logical CPU devices, in a separate process."""

import json
import os

from absl.testing import absltest

from tests import programs


class MirroredTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = absltest.get_default_test_tmpdir()
    programs.run('tests.agents.two_replicas', directory)
    path = os.path.join(directory, 'report.json')
    with open(path, encoding='utf-8') as file:
      cls._report = json.load(file)

  def test_five_steps_on_two_devices_equal_those_on_one(self):
    self.assertEqual(self._report['num_replicas'], 2)
    self.assertEqual(self._report['train_step'], 5)
    for name, difference in self._report['differences'].items():
      self.assertLess(difference, 1e-5, name)

  def test_both_devices_have_the_same_variables(self):
    self.assertEqual(set(self._report['between_copies'].values()), {0.0})

  def test_losses_and_metrics_describe_the_whole_batch(self):
    losses = self._report['losses']
    self.assertContainsSubset(
        ['loss', 'losses/td', 'losses/distillation'], losses['default']
    )
    self.assertEqual(set(losses['default']), set(losses['mirrored']))
    for name, expected in losses['default'].items():
      tolerance = 1e-6 + 1e-4 * abs(expected)
      self.assertAlmostEqual(
          losses['mirrored'][name], expected, delta=tolerance, msg=name
      )

  def test_means_within_a_loss_cover_the_whole_batch(self):
    losses = self._report['improver_losses']
    self.assertLen(losses['default'], 3)
    for name, expected in losses['default'].items():
      tolerance = 1e-5 * abs(expected)
      self.assertAlmostEqual(
          losses['mirrored'][name], expected, delta=tolerance, msg=name
      )

  def test_a_checkpoint_of_two_devices_is_restored_on_one(self):
    self.assertEqual(set(self._report['restored'].values()), {0.0})
    self.assertEqual(self._report['restored_env_steps'], 7)

  def test_gradients_are_summed_also_beside_a_missing_one(self):
    self.assertEqual(self._report['sums'], [None, 3.0])

  def test_dppo_on_two_devices_is_an_error(self):
    self.assertRegex(
        self._report['refusal_of_dppo'], '`DPPOAgent`.*one device, got 2'
    )


if __name__ == '__main__':
  absltest.main()
