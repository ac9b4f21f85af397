"""Tests the checks of the servers of a policy."""

import dataclasses
import types

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf import types as parl_types
from parl_tf.agents import parl_agent
from parl_tf.policies import remote
from parl_tf.training import served_checks
from tests.serving import toy_policy


class ServedChecksTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.directory = self.create_tempdir().full_path

  def _serve(self, can_save=True, max_training_bytes=2**30, **changes):
    server = self.enter_context(
        toy_policy.serving(
            toy_policy.ToyPolicy().functions(),
            dataclasses.replace(toy_policy.SPEC, **changes),
            directory=self.directory if can_save else None,
            max_training_bytes=max_training_bytes,
        )
    )
    return server.address

  def _check(self, address, *workers, state_size=3, temperature=1.0):
    bound = np.full(2, 2.0, np.float32)
    spec = parl_types.ModelSpec(
        {'state': tf.TensorSpec([3])},
        tf.TensorSpec([2]),
        raw_action_bounds=(-bound, bound),
        chunk_length=4,
    )
    policy = remote.RemotePolicy(
        spec, address=address, workers=workers, patience_seconds=0.5
    )
    search, evaluation = (
        types.SimpleNamespace(
            optimizer=types.SimpleNamespace(num_candidates=1),
            temperature=value,
        )
        for value in (1.0, temperature)
    )
    agent = types.SimpleNamespace(
        generative_policy=policy,
        critic=object(),
        searches=parl_agent.Searches(search, search, evaluation),
        time_step_spec=types.SimpleNamespace(
            observation={'state': tf.TensorSpec([state_size])}
        ),
    )
    served_checks.check(agent, 4, 10, uses_server=True, needs_versions=False)

  def test_servers_with_a_directory_may_have_workers(self):
    self._check(self._serve(), self._serve(), self._serve())

  def test_a_server_alone_needs_no_directory(self):
    self._check(self._serve(can_save=False))

  @parameterized.parameters(0, 1, 2)
  def test_workers_and_their_server_must_save_and_load(self, place):
    addresses = [self._serve(can_save=i != place) for i in range(3)]
    with self.assertRaisesRegex(
        ValueError,
        f'at ws://{addresses[place]} must save and load versions .*'
        ' `RemotePolicy.workers`: its author passes .* `directory`',
    ):
      self._check(*addresses)

  def test_workers_must_accept_the_pieces_of_their_server(self):
    self._check(self._serve(), self._serve(max_batch=16))
    with self.assertRaisesRegex(ValueError, 'the 8 states.*`max_batch` 7'):
      self._check(self._serve(), self._serve(max_batch=7))

  def test_the_observation_must_be_the_policys(self):
    address = self._serve()
    with self.assertRaisesRegex(ValueError, f'{address}: .*state.* 4'):
      self._check(address, state_size=4)

  def test_the_rows_of_a_fit_must_be_accepted(self):
    # Ten rows of three numbers, four actions of two, and their mask.
    self._check(self._serve(max_training_bytes=600))
    with self.assertRaisesRegex(
        ValueError, 'accepts 599 bytes a training, but .*, 10, of 60 bytes each'
    ):
      self._check(self._serve(max_training_bytes=599))

  def test_a_temperature_must_be_the_policys(self):
    self._check(self._serve(), temperature=0.5)
    with self.assertRaisesRegex(
        ValueError, 'no temperature but 1, got 0.5 in the search for evaluation'
    ):
      self._check(self._serve(has_temperature=False), temperature=0.5)

  def test_workers_must_have_a_policy_of_the_task(self):
    worker = self._serve(action_size=3, action_low=None, action_high=None)
    with self.assertRaisesRegex(
        ValueError, f'at ws://{worker} must predict .* size 2 .* of size 3'
    ):
      self._check(self._serve(), worker)

  def test_workers_must_answer(self):
    with toy_policy.serving(toy_policy.ToyPolicy().functions()) as server:
      worker = server.address
    with self.assertRaisesRegex(ConnectionError, f'answered at ws://{worker}'):
      self._check(self._serve(), worker)


if __name__ == '__main__':
  absltest.main()
