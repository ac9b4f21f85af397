"""Tests that users find the public names where the documents have them."""

import importlib
import inspect

from absl.testing import absltest
from absl.testing import parameterized


class PublicNamesTest(parameterized.TestCase):

  @parameterized.parameters(
      (
          'agents.action_optimizer.ActionOptimizer',
          'num_candidates, num_gradient_steps, step_size, acceptance,'
          ' temperature, dataset_action',
      ),
      ('losses.backup_value', 'values'),
      ('losses.td_target', 'reward, discount, next_value, gamma'),
      ('losses.expectile_loss', 'difference, expectile'),
      ('losses.calibrated_values', 'values, monte_carlo_return'),
      (
          'losses.conservative_penalty',
          'random_values, next_values, current_values, data_values,'
          ' temperature, log_densities',
      ),
      (
          'value_distribution.HLGauss',
          'min_value, max_value, num_bins, sigma_ratio, released_sigma',
      ),
      (
          'replay.episode_writer.monte_carlo_returns',
          'rewards, discounts, gamma, never_succeeds_value',
      ),
      ('policies.diffusion.cosine_beta_schedule', 'num_steps'),
      ('policies.diffusion.add_noise', 'action, noise, alpha_bar'),
      ('policies.diffusion.denoise_mean', 'x, predicted_noise, t, betas'),
      ('policies.transformer.ActionTokenizer', 'num_bins, low, high'),
      ('networks.random_shift', 'images, offsets, padding'),
  )
  def test_name_and_arguments(self, name, arguments):
    module, _, attribute = f'parl_tf.{name}'.rpartition('.')
    found = getattr(importlib.import_module(module), attribute)
    parameters = list(inspect.signature(found).parameters)
    wanted = arguments.split(', ')
    self.assertEqual(parameters[: len(wanted)], wanted)


if __name__ == '__main__':
  absltest.main()
