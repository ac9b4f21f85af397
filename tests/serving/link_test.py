"""Tests what happens when servers, links and messages fail."""

from concurrent import futures
import contextlib
import dataclasses
import threading
import time
from unittest import mock
import urllib.request

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
from websockets import exceptions
from websockets.sync import client as websocket_client
from websockets.sync import server as websocket_server

from benchmarks import cut_link
from parl_tf.serving import client as client_lib
from parl_tf.serving import messages
from parl_tf.serving import model_thread
from parl_tf.serving import policy_spec
from parl_tf.serving import pool
from parl_tf.serving import weights
from tests.serving import toy_policy


@contextlib.contextmanager
def _listening(converse, port=0, **options):
  """Runs a WebSocket server; yields its port."""
  with websocket_server.serve(
      converse, '127.0.0.1', port, compression=None, **options
  ) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.socket.getsockname()[1]
    server.shutdown()
    thread.join()


def _openpi(connection):
  """Serves the mean state as a chunk, by openpi's message format alone."""
  connection.send(messages.pack({'model': 'pi0'}))
  for message in connection:
    state = messages.unpack(message)['state']
    if not state.any():
      connection.send('Traceback: a fault of the policy')
      connection.close(1011)
      return
    actions = np.full([4, 2], np.mean(state))
    connection.send(messages.pack({'actions': actions, 'server_timing': {}}))


class PlainServerTest(absltest.TestCase):
  """Our client and a server without our extension."""

  def setUp(self):
    super().setUp()
    port = self.enter_context(_listening(_openpi))
    self.client = self.enter_context(
        client_lib.PolicyClient(f'127.0.0.1:{port}')
    )

  def test_actions_are_sampled_one_by_one(self):
    observation = toy_policy.observation(3)

    samples = self.client.sample(observation, 2, seed=0)

    self.assertIsNone(self.client.spec)
    self.assertRegex(samples.version, '^metadata-')
    wanted = np.mean(observation['state'], axis=1)[:, None, None, None]
    np.testing.assert_allclose(
        samples.actions, np.broadcast_to(wanted, [3, 2, 4, 2]), rtol=1e-6
    )

  def test_a_server_that_restarts_within_a_draw_is_noticed(self):
    infer = self.client.infer

    def restarting(observation):
      self.client.metadata['model'] += 'a'
      return infer(observation)

    with mock.patch.object(self.client, 'infer', restarting):
      self.client.sample(toy_policy.observation(1), 1, seed=0)  # Before it.
      with self.assertRaisesRegex(weights.StaleVersionError, 'was expected'):
        self.client.sample(toy_policy.observation(1), 2, seed=0)

  def test_several_clients_sample_as_one(self):
    observation = toy_policy.observation(3)
    clients = [self.client, self.client]

    actions = pool.sample(clients, observation, 2, 0, None)

    wanted = self.client.sample(observation, 2, seed=0).actions
    np.testing.assert_array_equal(actions, wanted)

  def test_our_calls_are_refused_here(self):
    self.assertFalse(self.client.can_train)
    with self.assertRaisesRegex(client_lib.RefusedError, 'plain openpi'):
      self.client.status()

  def test_text_is_an_error_and_the_next_call_reconnects(self):
    with self.assertRaisesRegex(RuntimeError, 'a fault of the policy'):
      self.client.infer({'state': np.zeros(3)})
    answer = self.client.infer({'state': np.ones(3)})
    np.testing.assert_array_equal(answer['actions'], np.ones([4, 2]))


class FailuresTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.policy = toy_policy.ToyPolicy()

  def test_a_dead_server_is_named(self):
    with toy_policy.serving(self.policy.functions()) as server:
      address = server.address
      client = self.enter_context(toy_policy.connect(server))
      client._connection._patience_seconds = 0.1

    with self.assertLogs(level='WARNING') as logs:
      with self.assertRaisesRegex(
          ConnectionError, f'No policy server answered at ws://{address}'
      ):
        client.sample(toy_policy.observation(1), 1, 0)
    self.assertIn(f'The connection to ws://{address} broke', logs.output[0])

  def test_a_restarted_server_is_waited_for(self):
    with toy_policy.serving(self.policy.functions()) as server:
      host, _, port = server.address.partition(':')
      # Waiting does not count if it may last for longer than an answer.
      client = self.enter_context(toy_policy.connect(server, call_seconds=0.3))
      client.status()

    restarted = threading.Event()

    def restart():
      with _listening(_openpi, int(port)):
        restarted.wait()

    timer = threading.Timer(0.4, restart)
    timer.start()
    with self.assertLogs(level='INFO') as logs:
      answer = client.infer({'state': np.ones(3)})
    client.close()
    restarted.set()
    timer.join()

    np.testing.assert_array_equal(answer['actions'], np.ones([4, 2]))
    self.assertIn(f'Waiting for the policy server at ws://{host}:{port}',
                  ' '.join(logs.output))

  def test_a_silent_server_counts_as_dead(self):
    extension = dict(
        toy_policy.SPEC.to_message(), protocol=1, version='x', max_bytes=10_000
    )

    def converse(connection):
      connection.send(messages.pack({'parl': extension}))
      # Neither pings nor messages are answered, as by a frozen process.
      connection.protocol.send_frame = lambda frame: None
      for _unused in connection:
        pass

    port = self.enter_context(_listening(converse, close_timeout=0.1))
    client = client_lib.PolicyClient(f'127.0.0.1:{port}', silence_seconds=0.3)
    with self.assertRaisesRegex(ConnectionError, 'twice: no answer to pings'):
      client.sample(toy_policy.observation(1), 1, 0)

  def test_a_late_answer_is_not_taken_for_the_next_one(self):
    goes_on = threading.Event()

    def sample(observation, num_samples, seed):
      if seed == 1:
        goes_on.wait()
      return np.full([len(observation['state']), num_samples, 4, 2], seed)

    server = self.enter_context(
        toy_policy.serving(self.policy.functions()._replace(sample=sample))
    )
    client = self.enter_context(toy_policy.connect(server, call_seconds=0.2))
    with self.assertRaisesRegex(TimeoutError, 'did not answer `sample` within'):
      client.sample(toy_policy.observation(1), 1, seed=1)
    goes_on.set()
    client._call_seconds = 60.0

    samples = client.sample(toy_policy.observation(1), 1, seed=2)

    np.testing.assert_array_equal(samples.actions, 2.0)

  def test_the_answer_to_an_interrupted_call_is_dropped(self):
    server = self.enter_context(toy_policy.serving(self.policy.functions()))
    client = self.enter_context(toy_policy.connect(server))
    connection = client._connection
    with mock.patch.object(
        connection, '_receive', side_effect=KeyboardInterrupt
    ):
      with self.assertRaises(KeyboardInterrupt):
        client.sample(toy_policy.observation(1), 1, seed=1)

    samples = client.sample(toy_policy.observation(1), 1, seed=2)

    np.testing.assert_allclose(
        samples.actions,
        self.policy.sample(toy_policy.observation(1), 1, 2),
        rtol=1e-6,
    )

  def test_calls_of_lost_clients_are_dropped(self):
    began, goes_on = threading.Event(), threading.Event()
    seeds = []

    def sample(observation, num_samples, seed):
      seeds.append(seed)
      began.set()
      goes_on.wait()
      return np.zeros([len(observation['state']), num_samples, 4, 2])

    server = self.enter_context(
        toy_policy.serving(self.policy.functions()._replace(sample=sample))
    )
    first = self.enter_context(toy_policy.connect(server))
    second = self.enter_context(toy_policy.connect(server, call_seconds=0.1))
    thread = threading.Thread(
        target=first.sample, args=(toy_policy.observation(1), 1, 1)
    )
    thread.start()
    began.wait()
    with self.assertRaises(TimeoutError):
      second.sample(toy_policy.observation(1), 1, seed=2)
    # A busy machine notices the closed connection late.
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline and any(
        call.is_wanted() for call in server._model._calls.queue
    ):
      time.sleep(0.01)
    goes_on.set()
    thread.join()

    first.sample(toy_policy.observation(1), 1, seed=3)
    self.assertEqual(seeds, [1, 3])

  def test_a_slow_link_may_take_longer_than_a_silent_server(self):
    server = self.enter_context(
        toy_policy.serving(toy_policy.ToyPolicy().functions())
    )
    link = cut_link.CutLink(int(server.address.rpartition(':')[2]))
    self.addCleanup(link.close)
    # 4 MB/s; the buffers of a connection hold less than 4 MB.
    link.seconds_per_block = 0.016
    client = self.enter_context(client_lib.PolicyClient(
        f'localhost:{link.port}', silence_seconds=2.0
    ))
    samples = client.sample(toy_policy.observation(8), 65_536, seed=0)
    self.assertEqual(samples.actions.shape, (8, 65_536, 4, 2))  # 17 MB

  def test_others_see_the_version_of_before_during_a_training(self):
    policy, during = toy_policy.ToyPolicy(), []

    def train(*rows):
      with toy_policy.connect(server) as other:
        during.append(other.status()['version'])
      return policy.train(*rows)

    server = self.enter_context(
        toy_policy.serving(policy.functions()._replace(train=train))
    )
    client = self.enter_context(toy_policy.connect(server))
    client.train(
        toy_policy.observation(1), np.ones([1, 4, 2]), num_steps=1, seed=0,
        version='initial',
    )
    self.assertEqual(during, ['initial'])
    self.assertStartsWith(client.status()['version'], 'initial+1-')

  def test_a_call_does_not_begin_after_its_deadline(self):
    model, made = model_thread.ModelThread(), []
    with futures.ThreadPoolExecutor(1) as executor:
      answer = executor.submit(
          model.call, lambda: made.append(True), 0.0, lambda: True
      )
      while not model.num_waiting:
        pass
      model.close()
      model.run()

    self.assertIsInstance(answer.exception(), model_thread.DeadlineError)
    self.assertEmpty(made)

  def test_training_is_sent_again_if_the_link_breaks_between_its_parts(self):
    policy = toy_policy.ToyPolicy()
    server = self.enter_context(
        toy_policy.serving(policy.functions(), max_bytes=66_000)
    )
    # A deadline that nothing meets: rows have that of their training, none.
    client = self.enter_context(toy_policy.connect(server, call_seconds=1e-6))
    call, answered = client._call, []

    def call_and_break(name, *args, **kwargs):
      answer = call(name, *args, **kwargs)
      answered.append(name)
      if len(answered) == 1:
        client.close()
      return answer

    with mock.patch.object(client, '_call', call_and_break):
      client.train(
          toy_policy.observation(20), np.ones([20, 4, 2]), num_steps=1, seed=0,
          version='initial',
      )

    self.assertEqual(policy.num_trainings, 1)
    self.assertEqual(answered[-1], 'train')

  def test_health_needs_no_key_and_policies_do(self):
    server = self.enter_context(
        toy_policy.serving(self.policy.functions(), api_key='secret')
    )

    with urllib.request.urlopen(f'http://{server.address}/healthz') as answer:
      self.assertEqual((answer.status, answer.read()), (200, b'OK\n'))
    for key in (None, 'wrong'):
      with self.assertRaisesRegex(PermissionError, 'refused the API key'):
        toy_policy.connect(server, api_key=key)
    with toy_policy.connect(server, api_key='secret') as client:
      self.assertEqual(client.status()['version'], 'initial')

  @parameterized.parameters(
      (b'\xc1', 'malformed'),
      ('text', 'must be binary'),
      (messages.pack([1]), 'must be a map'),
      (messages.pack({'parl': 3}), '`parl` must be a map'),
      (messages.pack({'state': np.zeros(4)}), 'must have shape'),
  )
  def test_wrong_messages_get_a_traceback_and_the_link_lives(
      self, message, fault
  ):
    server = self.enter_context(toy_policy.serving(self.policy.functions()))
    with websocket_client.connect(
        f'ws://{server.address}', compression=None, proxy=None
    ) as link:
      link.recv()
      link.send(message)
      error = link.recv()
      self.assertIsInstance(error, str)
      self.assertRegex(error, f'(?s)Traceback.*{fault}')
      link.send(messages.pack({'state': np.zeros(3)}))
      self.assertIn('actions', messages.unpack(link.recv()))

  def test_unknown_calls_are_refused(self):
    server = self.enter_context(toy_policy.serving(self.policy.functions()))
    with websocket_client.connect(
        f'ws://{server.address}', compression=None, proxy=None
    ) as link:
      link.recv()
      link.send(messages.pack({'parl': {'call': 'jump'}}))
      refusal = messages.unpack(link.recv())['parl']['error']
    self.assertEqual(refusal['kind'], 'invalid')
    self.assertIn("got 'jump'", refusal['message'])

  def test_oversized_messages_are_refused_and_the_server_lives(self):
    server = self.enter_context(
        toy_policy.serving(
            self.policy.functions(),
            dataclasses.replace(toy_policy.SPEC, max_batch=256),
            max_bytes=1_000,
        )
    )
    with websocket_client.connect(
        f'ws://{server.address}', compression=None, proxy=None
    ) as link:
      link.recv()
      with self.assertRaises(exceptions.ConnectionClosedError):
        link.send(bytes(2_000))
        link.recv()
      self.assertEqual(link.protocol.close_code, 1009)
    client = self.enter_context(toy_policy.connect(server))
    # 100 states exceed a message together, but not singly.
    samples = client.sample(toy_policy.observation(100), 1, 0)
    self.assertLen(samples.actions, 100)
    with self.assertRaisesRegex(ValueError, 'too many for a message'):
      client.infer({'state': np.zeros(1000)})
    self.assertEqual(client.status()['version'], 'initial')

  def test_a_state_that_exceeds_a_message_is_refused(self):
    observation = {'state': policy_spec.ArraySpec((1_000,))}
    server = self.enter_context(
        toy_policy.serving(
            self.policy.functions(),
            dataclasses.replace(toy_policy.SPEC, observation=observation),
            max_bytes=1_000,
        )
    )
    client = self.enter_context(toy_policy.connect(server))
    with self.assertRaisesRegex(client_lib.RefusedError, 'accepts at most'):
      client.sample({'state': np.zeros([2, 1_000], np.float32)}, 1, 0)


if __name__ == '__main__':
  absltest.main()
