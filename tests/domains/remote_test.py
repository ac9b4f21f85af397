"""Tests of environments in another process, on loopback."""

import queue
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import gymnasium
import numpy as np
import pytest

from benchmarks import cut_link
from examples.remote_environment import server
from parl_tf.domains import domain
from parl_tf.domains import gymnasium_adapter
from parl_tf.domains import remote
from parl_tf.domains import remote_connection
from tests.domains import domain_conformance
from tests.domains import example_server

_TASK = 'Pendulum-v1'


def setUpModule():
  global _server
  _server = example_server.ExampleServer(_TASK)


def tearDownModule():
  _server.kill()


class RemoteConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return remote.Remote(_server.address, max_episode_steps=6)


class OneWorldConformanceTest(RemoteConformanceTest):
  """Tests a server with a single world."""

  def make_domain(self):
    return remote.Remote(
        _server.address, max_episode_steps=6, max_environments=1
    )


class RemoteTest(parameterized.TestCase):

  def _domain(self, **kwargs):
    options = dict(max_episode_steps=30, action_repeat=2)
    return remote.Remote(_server.address, **{**options, **kwargs})

  def _play(self, environment, seed):
    environment.seed(seed)
    time_step = environment.reset()
    random = np.random.default_rng(seed)
    rewards, observations = [], [time_step.observation]
    while not time_step.last():
      action = random.uniform(-1, 1, 1).astype(np.float32)
      time_step = environment.step(action)
      rewards.append(float(time_step.reward))
      observations.append(time_step.observation)
    return rewards, observations

  def test_episodes_match_the_same_environment_in_this_process(self):
    here = gymnasium_adapter.GymnasiumEnvironment(
        gymnasium.make(_TASK).unwrapped,
        seed=0,
        action_repeat=2,
        max_episode_steps=30,
    )
    there = self._domain().make_environment(0, evaluation=True)
    self.addCleanup(there.close)

    self.assertEqual(here.action_spec(), there.action_spec())
    for seed in (3, 4):
      rewards, observations = self._play(there, seed)
      expected_rewards, expected_observations = self._play(here, seed)
      self.assertEqual(rewards, expected_rewards)
      np.testing.assert_array_equal(observations, expected_observations)

  def test_the_number_of_worlds_is_limited(self):
    expected = self._play(self._domain().make_environment(0, True), 3)
    for limit in (1, 2):
      domain = self._domain(max_environments=limit)
      made = [domain.make_environment(k, True) for k in range(2 * limit)]
      self.assertEqual(made[limit:], made[:limit])
      self.assertLen(set(map(id, made)), limit)
      # One user closes an environment that another user still needs.
      made[0].close()
      rewards, observations = self._play(made[0], 3)
      self.assertEqual(rewards, expected[0])
      np.testing.assert_array_equal(observations, expected[1])
      for environment in made:
        environment.close()

  def test_a_server_of_one_world_lets_others_wait(self):
    alive, most = [], []

    class Counted(gymnasium.Wrapper):

      def __init__(self):
        super().__init__(gymnasium.make(_TASK))
        alive.append(self)
        most.append(len(alive))

      def close(self):
        alive.remove(self)
        super().close()

    address = f'127.0.0.1:{example_server.free_port()}'
    running = server.serve(Counted, address, max_worlds=1)
    self.addCleanup(lambda: running.stop(None).wait())
    domain_ = remote.Remote(address, max_episode_steps=3, deadline_seconds=1.0)
    first = domain_.make_environment(0, True)
    first.reset()
    timer = threading.Timer(1.5, first.close)
    timer.start()
    # It reconnects until the first is closed.
    second = domain_.make_environment(1, True)
    timer.join()
    second.reset()
    second.close()
    self.assertGreaterEqual(len(most), 3)
    self.assertEqual(set(most), {1})

  @pytest.mark.full
  def test_a_broken_network_closes_the_environment(self):
    closed = threading.Event()

    class Noticed(gymnasium.Wrapper):

      def close(self):
        super().close()
        closed.set()

    port = example_server.free_port()
    running = server.serve(
        lambda: Noticed(gymnasium.make(_TASK)), f'localhost:{port}'
    )
    self.addCleanup(lambda: running.stop(None).wait())
    link = cut_link.CutLink(port)
    self.addCleanup(link.close)
    domain_ = remote.Remote(f'localhost:{link.port}', max_episode_steps=3)
    domain_.make_environment(0, True).reset()
    closed.clear()
    link.cut()
    self.assertTrue(closed.wait(30.0))

  def test_a_robot_stops_where_the_client_ends_the_episode(self):
    stopped = []

    class Robot(type(gymnasium.make(_TASK).unwrapped)):

      def stop_robot(self):
        stopped.append(True)

    address = f'localhost:{example_server.free_port()}'
    running = server.serve(
        lambda: gymnasium.wrappers.TimeLimit(Robot(), 200), address
    )
    self.addCleanup(lambda: running.stop(None).wait())
    domain_ = remote.Remote(address, max_episode_steps=2)
    environment = domain_.make_environment(0, True)
    environment.reset()
    stopped.clear()
    environment.step(np.ones([1], np.float32))
    self.assertEmpty(stopped)

    self.assertTrue(environment.step(np.ones([1], np.float32)).last())
    self.assertEqual(stopped, [True])
    self.assertTrue(environment.step(np.ones([1], np.float32)).first())
    stopped.clear()
    environment.step(np.ones([1], np.float32))
    environment.abandon()
    self.assertEqual(stopped, [True])

    running.stop(None).wait()
    with self.assertLogs(level='WARNING') as logs:
      environment.abandon()
    self.assertIn('the end of the episode is lost', logs.output[0])

  def test_raw_action_bounds_are_in_units_of_the_task(self):
    # The maximum torque of Pendulum is 2 N m.
    low, high = self._domain().raw_action_bounds
    np.testing.assert_array_equal([low, high], [[-2.0], [2.0]])

  def test_a_dead_server_loses_the_episode_and_is_waited_for(self):
    environment = self._domain().make_environment(0, evaluation=True)
    expected, _ = self._play(environment, 5)
    environment.seed(6)
    environment.reset()
    environment.step(np.zeros(1, np.float32))
    _server.kill()
    try:
      with self.assertRaisesRegex(
          domain.EpisodeLostError, r'during an episode\. \S'
      ):
        environment.step(np.zeros(1, np.float32))
    finally:
      _server.start()

    self.assertEqual(self._play(environment, 5)[0], expected)

  def test_episodes_are_repeated_when_the_server_returns(self):
    environment = self._domain().make_environment(0, evaluation=True)
    expected, _ = self._play(environment, 7)
    attempts = []

    def act():
      attempts.append(len(attempts))
      if len(attempts) == 1:
        _server.kill()
        _server.start()
      return self._play(environment, 7)[0]

    self.assertEqual(domain.act_until_kept(act), expected)
    self.assertLen(attempts, 2)

  def test_a_hanging_server_is_reported_within_the_deadline(self):
    environment = self._domain(deadline_seconds=1.0).make_environment(0, True)
    environment.reset()
    _server.stop()
    try:
      start = time.monotonic()
      with self.assertRaises(domain.EpisodeLostError) as raised:
        environment.step(np.zeros(1, np.float32))
      self.assertLess(time.monotonic() - start, 5.0)
    finally:
      _server.resume()
    self.assertRegex(
        str(raised.exception.__cause__), 'answer within 1 s.*`step`'
    )
    environment.reset()

  def test_little_time_to_connect_leaves_the_deadline_of_answers(self):
    environment = self._domain(
        reconnect_seconds=2.0, deadline_seconds=20.0
    ).make_environment(0, True)
    _server.stop()
    resume = threading.Timer(3.0, _server.resume)
    resume.start()
    try:
      self.assertTrue(environment.reset().first())
    finally:
      resume.join()

  def test_a_server_without_successes_is_warned_of(self):
    with self.assertNoLogs(level='WARNING'):
      self._domain()
    with mock.patch.object(
        remote.RemoteEnvironment, 'reports_success', False
    ), self.assertLogs(level='WARNING') as logs:
      self._domain()
    self.assertIn('no observation `success`', logs.output[0])

  def test_actions_without_bounds_are_refused(self):
    connect = remote_connection.connect

    def connect_to_unbounded(*args, **kwargs):
      connection = connect(*args, **kwargs)
      connection.actions['action'].ClearField('max')
      return connection

    with mock.patch.object(remote_connection, 'connect', connect_to_unbounded):
      with self.assertRaisesRegex(ValueError, '`action` must have bounds'):
        self._domain()

  def test_an_interrupted_step_disconnects(self):
    environment = self._domain().make_environment(0, evaluation=True)
    expected, _ = self._play(environment, 5)
    environment.seed(6)
    environment.reset()
    with mock.patch.object(
        queue.Queue, 'get', side_effect=KeyboardInterrupt
    ):
      with self.assertRaises(KeyboardInterrupt):
        environment.step(np.zeros(1, np.float32))
    # Its late answer is not taken for that of another request.
    environment.close()
    self.assertEqual(self._play(environment, 5)[0], expected)

  def test_other_actions_after_a_reconnection_are_an_error(self):
    environment = self._domain().make_environment(0, evaluation=True)
    environment.reset()
    environment.close()
    wrong = specs.BoundedArray((1,), np.float32, -1.0, 1.0, name='action')
    connect = remote_connection.connect

    def connect_to_another(*args, **kwargs):
      connection = connect(*args, **kwargs)
      connection.actions = {'action': wrong}
      return connection

    with mock.patch.object(remote_connection, 'connect', connect_to_another):
      with self.assertRaisesRegex(
          ValueError, '(?s)the same action as before.*-2.*got.*-1'
      ):
        environment.reset()

  def test_an_unreachable_server_is_an_error_that_names_the_address(self):
    address = f'127.0.0.1:{example_server.free_port()}'
    with self.assertRaisesRegex(
        ConnectionError, f'{address}: could not .* within 0.5 s'
    ):
      remote.Remote(address, max_episode_steps=1, reconnect_seconds=0.5)

  def test_an_error_of_the_server_is_reported(self):
    with self.assertRaisesRegex(RuntimeError, 'create_world.*colour'):
      self._domain(settings={'colour': 'red'})

  @parameterized.parameters(
      ('max_episode_steps', 0, r'in \[1, inf\]'),
      ('max_environments', 0, r'in \[1, inf\]'),
      ('action_repeat', 0, r'in \[1, inf\]'),
      ('reward_scale', 0.0, 'positive'),
      ('deadline_seconds', 0.0, 'positive'),
      ('reconnect_seconds', 0.0, 'positive'),
  )
  def test_an_argument_out_of_range_is_named(self, name, value, wanted):
    with self.assertRaisesRegex(ValueError, f'`{name}` must be .*{wanted}'):
      self._domain(**{name: value})


if __name__ == '__main__':
  absltest.main()
