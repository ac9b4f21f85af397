"""Tests the files of docs/add_a_critic.md.

Its gin file is trained with that of docs/add_a_policy.md, in the test of that
page.
"""

import pathlib
import re

from absl.testing import absltest
import numpy as np

from examples import expected_critic
from parl_tf.search import action_source
from tests import pages
from tests.critics import critic_conformance

_PAGE = 'docs/add_a_critic.md'


class ExpectedCriticConformanceTest(critic_conformance.CriticConformance):

  def make_critic(self, **kwargs):
    return critic_conformance.make(expected_critic.ExpectedCritic, **kwargs)


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
    self.assertLen(files, 2)
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
