"""Small runs of policies that servers in this process serve."""

import dataclasses
import functools
import os

from absl.testing import parameterized
import tensorflow as tf

from parl_tf.critics import td
from parl_tf.policies import remote
from parl_tf.serving import policy_spec
from parl_tf.training import served_online
from tests import eager
from tests.agents import small_agent
from tests.serving import toy_policy
from tests.training import small_run

SPEC = dataclasses.replace(
    toy_policy.SPEC,
    observation={'state': policy_spec.ArraySpec((4,))},
    action_low=None,
    action_high=None,
    max_batch=64,
)


def phase(num_epochs, **kwargs):
  return served_online.ServedOnline(
      num_epochs=num_epochs,
      episodes_per_epoch=2,
      critic_batch_size=8,
      num_fitted_rows=16,
      **{
          'num_fit_steps': 3,
          'evaluation_interval': 10,
          'num_samples': 3,
          'refresh_share': 0.5,
          **kwargs,
      },
  )


class ServedRunTest(parameterized.TestCase):
  """Has a dataset, and makes servers and sessions of runs.

  Attributes:
    folder: Folder of the test.
    episodes: The dataset.
  """

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self.folder = self.create_tempdir().full_path
    self.episodes = small_run.make_episodes(
        os.path.join(self.folder, 'data.hdf5')
    )

  def serve(self, name, can_save=True, toy=None):
    toy = toy or toy_policy.ToyPolicy()
    directory = os.path.join(self.folder, name) if can_save else None
    server = self.enter_context(
        toy_policy.serving(toy.functions(), SPEC, directory=directory)
    )
    return toy, server

  def make_session(self, root, server, critic_ctor=td.TDCritic, **kwargs):
    search = small_agent.make_search(num_gradient_steps=0)
    search.jit_compile = False
    agent = small_agent.make_agent(
        critic_ctor,
        functools.partial(
            remote.RemotePolicy,
            address=server.address,
            keys={'observation': 'state'},
            patience_seconds=5.0,
        ),
        observation_spec=tf.TensorSpec([4], tf.float32, 'observation'),
        search=search,
        is_policy_fixed=True,
    )
    session = small_run.make_session(
        os.path.join(self.folder, root), agent=agent, **kwargs
    )
    for episode in self.episodes:
      session.write_episode('offline', episode)
    self.addCleanup(agent.generative_policy.close)
    return session
