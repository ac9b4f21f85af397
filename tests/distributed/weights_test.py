"""Tests of transfers of weights that take longer than a call waits."""

import re
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.distributed import server_link
from parl_tf.distributed import weights
from tests.distributed import service_case


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
    stats.signature = weights.signature([self.variable])
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

  def _let_transfers_end(self):
    # A busy machine needs longer than the limit of the blocked transfers.
    self.enter_context(mock.patch.object(weights, '_TRANSFER_SECONDS', 60.0))
    self.may_end.set()

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

    self._let_transfers_end()
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

    self._let_transfers_end()
    self.weights.publish()
    self.assertEqual(pushed, [1.0, 2.0])

  def test_a_lost_server_is_a_lost_connection(self):
    self.enter_context(mock.patch.object(weights.newest_item, 'send'))
    self._let_transfers_end()
    lost = tf.errors.UnavailableError(None, None, 'gone')
    self.container.push.side_effect = [lost, None]
    with self.assertRaisesRegex(ConnectionError, 'gone'):
      self.weights.publish()
    self.weights.publish()
    self.container.push.side_effect = tf.errors.InvalidArgumentError(
        None, None, 'another signature'
    )
    with self.assertRaises(tf.errors.InvalidArgumentError):
      self.weights.publish()


class SignatureTest(parameterized.TestCase):

  @parameterized.parameters(
      dict(shapes=[[2, 3]], seen='float32 of shape [2, 3] there, float32 of'),
      dict(shapes=[], seen='missing there, float32 of'),
      dict(
          shapes=[[2], [4]],
          number='1 is ',
          seen='float32 of shape [4] there, missing here',
      ),
  )
  def test_the_first_variable_that_differs_is_named(
      self, shapes, seen, number='0 (dense/kernel) is '
  ):
    link = mock.create_autospec(
        server_link.ServerLink, instance=True, address='service:1'
    )
    # A service that is not ready has no weights, but the signature.
    table = link.table.return_value
    table.current_size = 0
    own = weights.Weights(
        link,
        [tf.Variable(tf.zeros([2]), name='dense/kernel')],
        tf.Variable(0, dtype=tf.int64),
    )
    table.signature = weights.signature([tf.Variable(tf.zeros([2]))])
    own.check_signature()
    self.assertIsNone(own.receive())
    table.signature = weights.signature(
        [tf.Variable(tf.zeros(shape)) for shape in shapes]
    )
    for call in (own.check_signature, own.receive):
      with self.assertRaisesRegex(
          ValueError, re.escape(f'variable number {number}{seen}')
      ):
        call()


class RestartTest(service_case.ServiceCase):

  def test_new_weights_of_a_restarted_service_are_received(self):
    # Both services have got weights once.
    first = self.start()
    link = server_link.ServerLink(first.address)
    received = [tf.Variable([0.0, 0.0])]

    def make(variables):
      return weights.Weights(link, variables, tf.Variable(0, dtype=tf.int64))

    make(self.variables).publish()
    receiver = make(received)
    receiver.receive()
    self.stop()
    self.start(port=first.port)
    self.variables[0].assign([5.0, 6.0])

    def publish():
      make(self.variables).publish()
      return True

    # As a learner does: the connection to the first service may break late.
    link.wait_for(weights.TABLE, publish)
    with mock.patch.object(weights, '_SAME_SECONDS', 0.0):
      receiver.receive()
    self.assertEqual(received[0].numpy().tolist(), [5.0, 6.0])


class SlowTransferTest(service_case.ServiceCase):

  def test_weights_of_a_slow_transfer_are_not_received_again_at_once(self):
    link = server_link.ServerLink(self.start().address)
    number = tf.Variable(0, dtype=tf.int64)
    weights.Weights(link, self.variables, number).publish()
    receiver = weights.Weights(link, [tf.Variable([0.0, 0.0])], number)
    transfer, now = receiver._transfer, time.monotonic()
    clock = mock.patch.object(weights.time, 'monotonic', lambda: now)

    def slow_transfer(*args):
      nonlocal now
      now += 100.0
      return transfer(*args)

    with clock, mock.patch.object(receiver, '_transfer', slow_transfer):
      receiver.receive()
      after = now
      receiver.receive()
    self.assertEqual(now, after)


if __name__ == '__main__':
  absltest.main()
