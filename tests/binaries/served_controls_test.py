"""Tests of the controls of a run whose policy another process serves."""

import dataclasses
import os
import re
import shutil
import signal
from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np

from parl_tf import interruption
from parl_tf.binaries import controls_run
from parl_tf.binaries import served_controls
from parl_tf.binaries import training_run
from parl_tf.reports import controls
from parl_tf.serving import policy_spec
from parl_tf.training import checkpoint
from parl_tf.training import evaluation
from tests import eager
from tests.binaries import tiny
from tests.serving import toy_policy
from tests.training import small_run

_GIN_FILES = (
    tiny.GIN_FILE, 'policies/served.gin', 'variants/served_online.gin',
)
_SPEC = dataclasses.replace(
    toy_policy.SPEC,
    observation={'state': policy_spec.ArraySpec((4,))},
    action_low=None,
    action_high=None,
)


class _RecordingPolicy(toy_policy.ToyPolicy):
  """Records the largest offset of the weights at each draw."""

  def __init__(self):
    super().__init__()
    self.offsets = []

  def sample(self, *args, **kwargs):
    self.offsets.append(np.max(np.abs(self.offset)))
    return super().sample(*args, **kwargs)


class ServedControlsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self.addCleanup(gin.clear_config)
    self._folder = self.create_tempdir().full_path
    self._run = os.path.join(self._folder, 'run')

  def _serve(self, **changes):
    self.toy = _RecordingPolicy()
    return self.enter_context(
        toy_policy.serving(
            self.toy.functions(),
            dataclasses.replace(_SPEC, **changes),
            directory=os.path.join(self._folder, 'versions'),
        )
    )

  def _train(self, server):
    training_run.train(
        self._run,
        _GIN_FILES,
        (
            *tiny.BINDINGS,
            *tiny.CHEAP_CRITIC,
            "run_experiment.phase_names = ('online',)",
            'run_experiment.num_recorded_steps = 100',
            'run_experiment.exported_policies = ()',
            f'RemotePolicy.address = {server.address!r}',
            "RemotePolicy.keys = {'observation': 'state'}",
            'ServedOnline.num_epochs = 1',
            'ServedOnline.episodes_per_epoch = 1',
            'ServedOnline.critic_batch_size = 8',
            'ServedOnline.num_fitted_rows = 16',
            'ServedOnline.num_fit_steps = 2',
        ),
        3,
    )

  def test_the_base_and_self_distillation_are_measured(self):
    server = self._serve()
    self._train(server)
    version, offset = server.weights.version, self.toy.offset.copy()
    self.assertNotEqual(np.max(np.abs(offset)), 0.0)
    self.toy.offsets.clear()

    (path,) = controls_run.measure_all([self._run])

    # The server has the weights of the run again.
    self.assertEqual(server.weights.version, version)
    np.testing.assert_array_equal(self.toy.offset, offset)
    # Evaluations and self-distillation began with the base.
    self.assertEqual(self.toy.offsets[0], 0.0)
    control = os.path.join(self._run, 'controls', 'self_distillation', 'seed_3')
    first, last = (
        checkpoint.read_state(os.path.join(x, 'checkpoints')).policy_versions
        for x in (self._run, control)
    )
    self.assertEqual(first[0], last[0])
    self.assertNotEqual(first[1], last[1])
    found = controls.read(self._run)
    self.assertTrue(controls.are_complete(self._run))
    self.assertEqual(set(found.clone), set(controls.TEMPERATURES))
    self.assertEqual(found.self_distillation['num_online_episodes'], 1)
    modified = os.stat(path).st_mtime_ns
    controls_run.measure_all([self._run])
    self.assertEqual(os.stat(path).st_mtime_ns, modified)

    os.remove(path)
    shutil.rmtree(os.path.join(self._folder, 'versions', first[0]))
    with self.assertRaisesRegex(ValueError, f'saved version .{first[0]}'):
      controls_run.measure_all([self._run])
    self.assertFalse(os.path.exists(path))

  def test_a_run_that_began_from_another_has_them_too(self):
    initial = ("'other'", "'offline'")
    names = ('run_experiment.initial_run', 'run_experiment.initial_phase')
    with gin.unlock_config():
      gin.parse_config([f'{x} = {y}' for x, y in zip(names, initial)])
      gin.parse_config(served_controls.GIN_BINDINGS)
    self.assertEqual([gin.query_parameter(x) for x in names], [None, None])

  def test_a_policy_without_temperatures_has_one(self):
    server = self._serve(has_temperature=False)
    gin.parse_config([
        f'RemotePolicy.address = {server.address!r}',
        "RemotePolicy.keys = {'observation': 'state'}",
    ])
    small_run.make_session(self._run).save()  # Without an online phase.
    domain = small_run.make_domain()
    evaluator = evaluation.Evaluator(domain, num_episodes=2, seed=0)

    with served_controls.evaluations(self._run, domain) as evaluate:
      self.assertLen(evaluate(evaluator, 1.0).episodes, 2)
      self.assertIsNone(evaluate(evaluator, 0.5))

  def _trained(self):
    """Returns the server of a run, whose policy it has trained, and domain."""
    server = self._serve()
    gin.parse_config([
        f'RemotePolicy.address = {server.address!r}',
        "RemotePolicy.keys = {'observation': 'state'}",
    ])
    with toy_policy.connect(server) as client:
      client.save('initial')
      client.train(
          {'state': np.zeros([4, 4])}, np.ones([4, 4, 2]), num_steps=1, seed=0,
          version='initial',
      )
      client.save(server.weights.version)
    session = small_run.make_session(self._run)
    session.state.policy_versions = ['initial', server.weights.version]
    session.save()
    return server, small_run.make_domain()

  @parameterized.parameters(signal.SIGINT, signal.SIGTERM)
  def test_an_interrupted_control_leaves_the_weights_of_the_run(self, number):
    server, domain = self._trained()
    version = server.weights.version
    interruption.take_no_time()  # A robot of an earlier test may need some.
    seen = []
    with interruption.turns(), self.assertRaises(KeyboardInterrupt):
      with served_controls.base(self._run, domain):
        # Else the process would end within a second of Ctrl-C.
        seen += [server.weights.version, interruption._takes_time.is_set()]
        if number == signal.SIGTERM:
          # An epoch may be longer than its sender waits.
          interruption._handle_sigterm(number, None)
        else:
          signal.default_int_handler(number, None)
    self.assertEqual(seen, ['initial', True])
    self.assertEqual(server.weights.version, version)
    self.assertFalse(interruption._takes_time.is_set())

  def test_a_second_interruption_names_the_version_of_the_run(self):
    server, domain = self._trained()
    call = re.escape(f".load('{server.weights.version}')`")
    for error in (KeyboardInterrupt, ConnectionError('away')):
      with (
          self.subTest(repr(error)),
          self.assertLogs(logging.get_absl_logger(), 'INFO') as logs,
          self.assertRaises(BaseException) as raised,
      ):
        with served_controls.base(self._run, domain) as policy:
          policy.restore = mock.Mock(side_effect=error)
          raise KeyboardInterrupt
      told = str(raised.exception) + logs.output[-1]
      self.assertRegex(told, f'may have the weights of a control.*{call}')

  def test_a_policy_is_served_if_its_constructor_is(self):
    for constructor, is_served in (
        ('@RemotePolicy', True),
        ('@parl_tf.policies.remote.RemotePolicy', True),
        ('%policy', True),
        ('@DiffusionPolicy', False),
    ):
      self.assertEqual(
          served_controls.is_served(
              {
                  'build_agent.policy_ctor': constructor,
                  'policy': '@RemotePolicy',
              }
          ),
          is_served,
      )
    self.assertFalse(served_controls.is_served({}))


if __name__ == '__main__':
  absltest.main()
