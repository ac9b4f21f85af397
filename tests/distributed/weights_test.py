"""Tests of transfers of weights that take longer than a call waits."""

import threading
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.distributed import server_link
from parl_tf.distributed import weights


class WeightsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.link = mock.create_autospec(
        server_link.ServerLink, instance=True, address='service'
    )
    real = server_link.ServerLink('localhost:1')
    real.tables = lambda: {}
    self.link.begin.side_effect = real.begin
    self.link.result.side_effect = real.result
    stats = self.link.table.return_value
    stats.current_size = 1
    stats.rate_limiter_info.insert_stats.completed = 1
    self.variable = tf.Variable([0.0])
    self.weights = weights.Weights(
        self.link, [self.variable], tf.Variable(0, dtype=tf.int64)
    )
    self.container = mock.Mock()
    self.enter_context(mock.patch.object(
        weights.reverb_variable_container,
        'ReverbVariableContainer',
        return_value=self.container,
    ))
    self.enter_context(mock.patch.object(weights, '_TRANSFER_SECONDS', 0.05))
    self.may_end = threading.Event()
    self.addCleanup(self.may_end.set)

  def test_a_slow_pull_is_made_once_and_used(self):
    def pull():
      self.may_end.wait()
      return {
          'is_over': np.bool_(False),
          'num_episodes': np.int64(3),
          'train_step': np.int64(7),
          'variables': (np.array([2.0], np.float32),),
      }

    self.container.pull.side_effect = pull
    for _ in range(3):
      with self.assertRaisesRegex(ConnectionError, 'within 0.05 s'):
        self.weights.receive()
    self.assertEqual(self.container.pull.call_count, 1)
    self.assertEqual(self.variable.numpy(), [0.0])

    self.may_end.set()
    self.assertTrue(self.weights.receive())
    self.assertEqual(self.container.pull.call_count, 1)
    self.assertEqual(self.variable.numpy(), [2.0])

  def test_an_old_push_never_arrives_after_a_new_one(self):
    pushed = []

    def push(values):
      if not pushed:
        self.may_end.wait()
      pushed.append(float(values['variables'][0][0]))

    self.container.push.side_effect = push
    self.enter_context(mock.patch.object(weights.newest_item, 'send'))
    self.variable.assign([1.0])
    with self.assertRaises(ConnectionError):
      self.weights.publish()
    self.variable.assign([2.0])
    with self.assertRaises(ConnectionError):
      self.weights.publish()
    self.assertEmpty(pushed)

    self.may_end.set()
    self.weights.publish()
    self.assertEqual(pushed, [1.0, 2.0])


if __name__ == '__main__':
  absltest.main()
