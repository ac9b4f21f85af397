"""Tests what a server says of mistakes in its author's functions."""

import os

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.serving import connection
from parl_tf.serving import log
from parl_tf.serving import server as server_lib
from tests.serving import toy_policy


class AuthorMistakesTest(parameterized.TestCase):

  def _connect(self, **changes):
    functions = toy_policy.ToyPolicy().functions()._replace(**changes)
    server = self.enter_context(
        toy_policy.serving(
            functions,
            directory=os.path.join(self.create_tempdir().full_path, 'saved'),
        )
    )
    return self.enter_context(toy_policy.connect(server))

  @parameterized.parameters(
      (None, "must return its losses, got no 'loss'"),
      ([], "must return its losses, got no 'loss'"),
      ({'flow': [1.0, np.nan]}, r"got 'flow' = nan at \[1\] of shape \[2\]"),
  )
  def test_losses_are_needed_and_finite(self, losses, message):
    client = self._connect(train=lambda *unused_arguments: losses)
    with self.assertRaisesRegex(connection.PolicyServerError, message):
      client.train(
          toy_policy.observation(2), np.ones([2, 4, 2]), num_steps=2, seed=0,
          version='initial',
      )
    self.assertEqual(client.status()['version'], 'initial.failed')

  def test_an_error_names_the_line_of_the_author(self):
    def sample(observation, num_samples, seed):
      return np.stack([np.zeros(2), np.zeros(3)])  # NumPy raises it.

    client = self._connect(sample=sample)
    line = sample.__code__.co_firstlineno + 1
    with self.assertRaisesRegex(
        connection.PolicyServerError,
        rf'in `sample`: ValueError: .*\(/.*mistakes_test.py, line {line}\)$',
    ):
      client.sample(toy_policy.observation(1), 1, seed=0)

    ragged = [[0.0], [0.0, 1.0]]  # As a tensor of bfloat16, no array.
    client = self._connect(sample=lambda *unused_arguments: ragged)
    with self.assertRaisesRegex(
        connection.PolicyServerError, 'must be a float32 array .*, got list: '
    ):
      client.sample(toy_policy.observation(1), 1, seed=0)

    client = self._connect(sample=lambda *unused_arguments: np.zeros(3))
    with self.assertRaisesRegex(
        connection.PolicyServerError, r'must have shape .*, got \[3\]\.$'
    ):
      client.sample(toy_policy.observation(1), 1, seed=0)

  def test_what_no_message_can_carry_is_refused_at_once(self):
    with self.assertRaisesRegex(ValueError, '`metadata` must be sent.* object'):
      server_lib.PolicyServer(
          toy_policy.ToyPolicy().functions(),
          toy_policy.SPEC,
          port=0,
          metadata={'model': object()},
      )

  def test_a_save_that_writes_nothing_is_refused(self):
    client = self._connect(save=lambda path: None)
    with self.assertRaisesRegex(ValueError, '`save` must .* wrote no file'):
      client.save('initial')
    self.assertEmpty(client.status()['saved'])

  def test_functions_without_a_directory_are_warned_of(self):
    with self.assertLogs(log.logger, 'WARNING') as logs:
      self.enter_context(
          toy_policy.serving(toy_policy.ToyPolicy().functions())
      )
    self.assertIn('no effect, because `directory` is None', logs.output[0])


if __name__ == '__main__':
  absltest.main()
