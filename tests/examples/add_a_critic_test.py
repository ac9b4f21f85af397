"""Tests the files of docs/add_a_critic.md.

Its gin file is trained with that of docs/add_a_policy.md, in the test of that
page.
"""

import pathlib
import re

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from examples import expected_critic
from examples import quantiles
from parl_tf.search import action_source
from tests import pages
from tests.critics import critic_conformance

_PAGE = 'docs/add_a_critic.md'


class ExpectedCriticConformanceTest(critic_conformance.CriticConformance):

  def make_critic(self, **kwargs):
    return critic_conformance.make(expected_critic.ExpectedCritic, **kwargs)


class QuantilesTest(absltest.TestCase):

  def test_the_loss_is_that_of_quantile_regression(self):
    head = quantiles.Quantiles((-4.0, 4.0), num_bins=2)
    outputs = np.array([[[0.0, 2.0]]], np.float32)

    # Levels 1/4 and 3/4. Target 1: errors 1 and -1 cost 1/4 each. Target 3:
    # errors 3 and 1 cost 3/4 each.
    for target, loss in ((1.0, 0.25), (3.0, 0.75)):
      targets = np.array([[target]], np.float32)
      np.testing.assert_allclose(head.cross_entropy(outputs, targets), [[loss]])
    np.testing.assert_allclose(head.mean(outputs), [[1.0]])

  def test_a_critic_learns_with_it(self):
    critic = critic_conformance.make(
        expected_critic.ExpectedCritic,
        distribution_ctor=lambda _: quantiles.Quantiles((-9.0, 0.0)),
        initial_value=-3.0,
    )
    transition = critic_conformance.make_transition(4)
    source = critic_conformance.make_source(
        critic,
        critic_conformance.make_policy(),
        transition,
        search=action_source.Search(5),
    )
    optimizer = tf.keras.optimizers.Adam(0.01)
    losses = []
    for _ in range(20):
      with tf.GradientTape() as tape:
        found = critic.loss(transition, source, critic_conformance.SEED)
        loss = tf.reduce_mean(found.per_example)
      variables = critic.trainable_variables
      gradients = tape.gradient(loss, variables)
      optimizer.apply_gradients(zip(gradients, variables, strict=True))
      losses.append((float(loss), float(found.metrics['values/mean'])))
    self.assertLess(losses[-1][0], 0.5 * losses[0][0])
    self.assertBetween(losses[0][1], -4.0, -2.0)  # The initial value.


class ExpectedCriticTest(absltest.TestCase):

  def test_target_and_advantage_subtract_means_over_the_samples(self):
    critic = critic_conformance.make(
        expected_critic.ExpectedCritic, num_samples=3, num_target_members=None
    )
    transition = critic_conformance.make_transition(4)
    source = critic_conformance.make_source(
        critic,
        critic_conformance.make_policy(),
        transition,
        search=action_source.Search(5),
    )
    _, action_step, next_ = transition
    samples = source.next.base()[:, :3]
    members = critic.bind(next_.observation, target=True).members(samples)
    least = members.numpy().min(axis=0)  # [B, N]
    target = next_.reward + 0.99 * next_.discount * least.mean(axis=1)

    metrics = critic.loss(transition, source, critic_conformance.SEED).metrics

    np.testing.assert_allclose(
        metrics['values/target'], np.mean(target), rtol=1e-5
    )
    np.testing.assert_allclose(
        metrics['values/spread'], least.std(axis=1).mean(), rtol=1e-4
    )
    observation = transition.time_step.observation
    value_fn = critic.bind(observation)
    action = action_step.action
    expected = value_fn(source.here.base()[:, :3]).numpy().mean(axis=1)
    np.testing.assert_allclose(
        critic.advantage(observation, action, source, None),
        value_fn(action[:, np.newaxis])[:, 0] - expected,
        atol=1e-6,
    )


class PageTest(absltest.TestCase):

  def test_its_files_match_the_examples(self):
    files = {x.file_name: x.text for x in pages.blocks(_PAGE) if x.file_name}
    self.assertLen(files, 3)
    for name, text in files.items():
      file = pages.ROOT / 'examples' / name
      self.assertEqual(file.read_text(encoding='utf-8'), text)

  def test_its_test_matches_this_one(self):
    *_, test = pages.blocks(_PAGE, 'python')
    _, _, method = test.text.partition('  def make_critic')
    own = pathlib.Path(__file__).read_text(encoding='utf-8')
    self.assertIn(re.sub(r'\s', '', method), re.sub(r'\s', '', own))


if __name__ == '__main__':
  absltest.main()
