"""Tests `parl-cache`, and offline RL on its output."""

import os

from absl.testing import absltest
import gin
import numpy as np

from parl_tf.binaries import cache_run
from parl_tf.binaries import configs
from parl_tf.domains import domain as domain_lib
from parl_tf.replay import experience
from parl_tf.replay import memory_experience
from parl_tf.serving import policy_spec
from parl_tf.serving import server
from parl_tf.training import cached_samples
from parl_tf.training import experiment
from parl_tf.training import run_dataset
from parl_tf.training import session as session_lib
from parl_tf.training import sources
from parl_tf.training import table_writers
from tests.binaries import tiny
from tests.serving import toy_policy
from tests.training import small_run

_BINDINGS = tiny.BINDINGS


class CacheTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    folder = self.create_tempdir().full_path
    self._output = os.path.join(folder, 'cache')
    self._dataset = os.path.join(folder, 'data.hdf5')
    small_run.make_episodes(self._dataset)
    self._root = os.path.join(folder, 'run')
    self.num_draws = 0

  def _serve(self, version='initial', max_batch=32):
    def sample(observation, num_samples, seed):
      self.num_draws += 1
      random = np.random.default_rng(seed)
      state = observation['observation'][:, np.newaxis, np.newaxis, :2]
      noise = random.normal(size=(len(state), num_samples, 1, 2))
      return np.clip(np.tanh(state) + 0.1 * noise, -1.0, 1.0)

    spec = policy_spec.PolicySpec(
        {'observation': policy_spec.ArraySpec((4,))},
        action_size=2,
        max_batch=max_batch,
    )
    return self.enter_context(
        toy_policy.serving(server.Policy(sample), spec, version=version)
    )

  def _parse(self, address):
    binding = f'RemotePolicy.address = "{address}"'
    configs.parse(
        [tiny.GIN_FILE, 'policies/served.gin'], [*_BINDINGS, binding]
    )

  def test_offline_rl_reads_the_cache_without_the_server(self):
    addresses = [self._serve().address, self._serve().address]
    self._parse('127.0.0.1:1')  # Nobody serves there.

    summary = cache_run.fill(
        self._output, self._dataset, addresses, dtype='float16'
    )

    # Two samples of two numbers of two bytes.
    self.assertRegex(
        summary, r'samples of version initial each, 8 bytes per state; 1 of 1'
    )
    num_draws = self.num_draws
    self.assertIn(
        '0 of 1 shards', cache_run.fill(
            self._output, self._dataset, addresses, dtype='float16'
        )
    )
    self.assertEqual(self.num_draws, num_draws)

    domain = domain_lib.select_domain()
    agent = experiment.make_agent(domain, domain.normalization, 0)
    source = sources.LocalSource(
        memory_experience.MemoryExperience, domain, agent, 0
    )
    session = session_lib.Session(
        self._root,
        seed=0,
        domain=domain,
        agent=agent,
        source=source,
        writers=table_writers.make(domain, agent, source.experience),
        num_evaluation_episodes=0,  # Evaluations would ask the server.
        checkpoint_seconds=1e6,
    )
    for episode in run_dataset.load(self._dataset, domain):
      session.write_episode('offline', episode)
    cached_samples.attach(session, self._output)
    rows = next(
        source.experience.iterate(
            0,
            1,
            experience.ExperienceRequest(
                critic_slices=1, critic_batch_size=8
            ),
        )
    ).critic
    samples = rows.policy_info['candidate_actions']
    self.assertEqual(samples.dtype, np.float32)
    np.testing.assert_allclose(
        np.mean(samples, axis=2),
        np.clip(np.tanh(rows.observation[..., :2]), -1.0, 1.0),
        atol=0.4,
    )
    # What acts must have the weights that drew the samples.
    self.assertEqual(agent.generative_policy.version, 'initial')

  def test_servers_with_different_versions_are_refused(self):
    addresses = [self._serve().address, self._serve('other').address]
    self._parse(addresses[0])

    with self.assertRaisesRegex(ValueError, "same version.*'other'"):
      cache_run.fill(self._output, self._dataset, addresses)

  def test_servers_that_draw_in_other_pieces_are_refused(self):
    addresses = [self._serve().address, self._serve(max_batch=3).address]
    self._parse(addresses[0])

    with self.assertRaisesRegex(ValueError, 'must have one `max_batch`.* 3'):
      cache_run.fill(self._output, self._dataset, addresses)

  def test_a_cache_of_another_version_is_refused(self):
    self._parse('127.0.0.1:1')
    cache_run.fill(self._output, self._dataset, [self._serve().address])

    with self.assertRaisesRegex(ValueError, "`version` 'other', got 'initial'"):
      cache_run.fill(
          self._output, self._dataset, [self._serve('other').address]
      )


if __name__ == '__main__':
  absltest.main()
