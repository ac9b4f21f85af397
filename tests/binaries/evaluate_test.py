import json
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import imageio
import numpy as np
import tensorflow as tf

from parl_tf.binaries import exported_policy
from parl_tf.binaries import video
from parl_tf.datasets import reading
from parl_tf.serving import policy_spec
from parl_tf.serving import server
from parl_tf.training import evaluation
from tests.serving import toy_policy
from tests.training import line_walk

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# Packages that a machine does not need if it only runs policies.
_ABSENT = (
    'matplotlib',
    'reverb',
    'rich',
    'tf_agents',
    'tensorflow_probability',
)
_GIN = """
import tests.training.line_walk
select_domain.domain = @LineWalk()
LineWalk.max_episode_steps = 6  # environment steps
"""
_TRAINING_GIN = """
import tf_agents.agents
CRITIC = @NoSuchCritic
no_such_trainer.critic_ctor = %CRITIC
"""
_END = '--- end of a run ---'
# Runs the program with each list of arguments in a fork.
_PROGRAM = f"""
import os, sys
sys.modules.update(dict.fromkeys({_ABSENT}))
from parl_tf.binaries import evaluate, evaluation_run
for arguments in sys.argv[1:]:
  if not os.fork():
    sys.argv = eval(arguments)
    evaluate.run()
    sys.exit()
  if os.wait()[1]:
    sys.exit(arguments)
  print({_END!r}, end='', flush=True)
"""
_SEED = tf.TensorSpec([2], tf.int32, name='seed')
_FLAT = tf.TensorSpec([None, 2], tf.float32, name='observation')
_PART = tf.TensorSpec([None, 1], tf.float32)


def _walk(place, seed):
  """Returns actions in [-1, 1]: mostly forward, with noise from `seed`."""
  noise = tf.random.stateless_uniform(tf.shape(place), seed, -1.0, 1.0)
  return tf.clip_by_value(0.4 + noise, -1.0, 1.0)


def _raw(action):
  # The bounds of `LineWalk` are -3 and 1.
  return 2.0 * action - 1.0


def _flat_policy(observation, seed):
  return {'action': _raw(_walk(observation[:, :1], seed))}


def _dict_policy(place, time, seed):
  del time
  return {'action': _raw(_walk(place, seed))}


def _save(path, function, **specs):
  module = tf.Module()
  signature = tf.function(function).get_concrete_function(**specs)
  tf.saved_model.save(module, path, signatures={'serving_default': signature})


class EvaluateTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    directory = tempfile.TemporaryDirectory()
    self.addCleanup(directory.cleanup)
    self._dir = directory.name
    self._policy = os.path.join(self._dir, 'greedy_policy')

  def _run(self, *commands):
    """Runs the program without the packages that only training needs.

    Args:
      *commands: Arguments of each run; runs are forks of one process.

    Returns:
      What each run printed.
    """
    gin_file = os.path.join(self._dir, 'experiment.gin')
    pathlib.Path(gin_file).write_text(_GIN + _TRAINING_GIN, encoding='utf-8')
    environment = {
        **os.environ,
        'PYTHONPATH': str(_ROOT),
        'CUDA_VISIBLE_DEVICES': '',
    }
    flags = (f'--policy={self._policy}', f'--gin_file={gin_file}')
    done = subprocess.run(
        [sys.executable, '-c', _PROGRAM]
        + [repr(['evaluate', *flags, *command]) for command in commands],
        env=environment,
        cwd=self._dir,
        capture_output=True,
        text=True,
        check=False,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    return done.stdout.split(_END)[:-1]

  def test_program_prints_the_same_episodes_as_the_live_policy(self):
    _save(self._policy, _flat_policy, observation=_FLAT, seed=_SEED)
    video = os.path.join(self._dir, 'walk.mp4')
    log = os.path.join(self._dir, 'trials')
    in_json, in_words = self._run(
        [
            '--num_episodes=6', '--seed=4', '--json', f'--video={video}',
            f'--episodes={log}',
        ],
        ['--num_episodes=4', '--gin_bindings=LineWalk.draws=False'],
    )
    self.assertRegex(
        in_words,
        r'^success rate [01]\.\d{3} \(95 % interval 0\.\d{3} to [01]\.\d{3}\),'
        r' score \d+\.\d, \d of 4 episodes, \d+\.\d steps to success,'
        r' return -?\d+\.\d, \d+ environment steps\n$',
    )
    printed = json.loads(in_json)
    live = evaluation.Evaluator(
        line_walk.LineWalk(max_episode_steps=6), num_episodes=6, seed=4
    ).run(lambda observation, seed: _walk(observation[:, :1], seed).numpy())
    self.assertBetween(live.successes.sum(), 1, 5)
    self.assertEqual(printed['successes'], live.successes.tolist())
    self.assertEqual(printed['success_rate'], live.success_rate)
    self.assertEqual(printed['success_interval'], list(live.success_interval))
    self.assertEqual(printed['score'], live.score)
    self.assertEqual(printed['steps_to_success'], live.steps_to_success)
    self.assertEqual(printed['mean_return'], live.mean_return)
    self.assertEqual(
        printed['episode_lengths'], [e.num_steps for e in live.episodes]
    )
    np.testing.assert_array_equal(
        printed['start_observations'],
        [e.observation[0] for e in live.episodes],
    )
    np.testing.assert_allclose(
        printed['first_actions'],
        [e.action[0] for e in live.episodes],
        atol=1e-5,
    )
    for one, other in zip(
        reading.read_episodes(log), live.episodes, strict=True
    ):
      self.assertEqual(one.episode_id, other.episode_id)
      np.testing.assert_allclose(
          one.observation, other.observation, atol=1e-5
      )
      np.testing.assert_allclose(one.action, other.action, atol=1e-5)
      np.testing.assert_array_equal(one.success, other.success)
    self.assertEqual(
        imageio.get_reader(video).count_frames(), live.episodes[0].num_steps + 1
    )

  def test_another_policy_plays_the_same_starts(self):
    _save(self._policy, _flat_policy, observation=_FLAT, seed=_SEED)
    other = os.path.join(self._dir, 'backward')
    _save(
        other,
        lambda observation, seed: {'action': observation[:, :1] * 0.0 - 3.0},
        observation=_FLAT,
        seed=_SEED,
    )
    flags = ['--num_episodes=40', '--seed=4', f'--against={other}']
    in_json, in_words, with_itself = self._run(
        [*flags, '--json'],
        flags,
        [*flags, f'--against={self._policy}'],
    )
    printed = json.loads(in_json)
    found = printed['against']
    num_successes = sum(printed['successes'])
    self.assertGreater(num_successes, 2)
    self.assertEqual(
        (found['policy'], found['success_rate'], found['num_lost']),
        (other, 0.0, 0),
    )
    self.assertEqual(found['num_won'], num_successes)
    self.assertEqual(found['by_chance'], 2.0**(1 - num_successes))
    self.assertEqual(found['start_observations'], printed['start_observations'])
    self.assertAlmostEqual(
        found['return_difference'],
        printed['mean_return'] - found['mean_return'],
        places=6,
    )
    self.assertRegex(
        in_words,
        rf'(?s)^success rate .*\n{other}: success rate 0\.000 .*\n'
        rf'{num_successes} starts won, 0 lost: equal policies differ as much in'
        r' \d+\.\d % of such comparisons; return \+\d+\.\d \(standard error'
        r' \d+\.\d\)\n$',
    )
    self.assertRegex(
        with_itself,
        r'\n0 starts won, 0 lost: .* in 100\.0 % .* return \+0\.0 \(.* 0\.0\)',
    )

  def test_the_other_policy_is_loaded_before_an_episode_is_played(self):
    _save(self._policy, _flat_policy, observation=_FLAT, seed=_SEED)
    gin_file = os.path.join(self._dir, 'experiment.gin')
    pathlib.Path(gin_file).write_text(_GIN, encoding='utf-8')
    program = (
        'from parl_tf.binaries import evaluate, evaluation_run\n'
        'evaluation_run.play = None\nevaluate.run()'
    )
    done = subprocess.run(
        [sys.executable, '-c', program, f'--policy={self._policy}',
         f'--gin_file={gin_file}', '--against=no_such_policy'],
        env={**os.environ, 'PYTHONPATH': str(_ROOT)},
        capture_output=True, text=True, check=False,
    )
    self.assertNotEqual(done.returncode, 0)
    self.assertIn("SavedModel, got 'no_such_policy'", done.stderr)

  def test_the_other_policy_may_be_served(self):
    _save(self._policy, _flat_policy, observation=_FLAT, seed=_SEED)
    gin_file = os.path.join(self._dir, 'experiment.gin')
    pathlib.Path(gin_file).write_text(_GIN, encoding='utf-8')

    def sample(observation, num_samples, seed):
      size = len(observation['observation'])
      return np.full([size, num_samples, 1, 1], -3.0, np.float32)

    spec = policy_spec.PolicySpec(
        {'observation': policy_spec.ArraySpec((2,))}, action_size=1
    )
    with toy_policy.serving(server.Policy(sample), spec) as running:
      done = subprocess.run(
          [sys.executable, '-m', 'parl_tf.binaries.evaluate',
           f'--policy={self._policy}', f'--gin_file={gin_file}',
           '--gin_bindings=ActionOptimizer.step_size = 0.1',
           f'--against=ws://{running.address}', '--num_episodes=2'],
          env={**os.environ, 'PYTHONPATH': str(_ROOT)},
          capture_output=True, text=True, check=True,
      )
    self.assertIn(f'ws://{running.address}: success rate 0.000', done.stdout)
    self.assertIn('ActionOptimizer.step_size: no effect', done.stderr)

  def test_dict_observation_has_one_input_per_key(self):
    _save(self._policy, _dict_policy, place=_PART, time=_PART, seed=_SEED)
    domain = line_walk.LineWalk(is_dict=True)
    evaluator = evaluation.Evaluator(domain, num_episodes=3, seed=0)
    result = evaluator.run(exported_policy.ExportedPolicy(self._policy, domain))
    live = evaluator.run(
        lambda observation, seed: _walk(observation['place'], seed).numpy()
    )
    for one, other in zip(result.episodes, live.episodes, strict=True):
      np.testing.assert_allclose(one.action, other.action, atol=1e-6)

  def test_a_policy_of_another_task_is_warned_of(self):
    _save(self._policy, _dict_policy, place=_PART, time=_PART, seed=_SEED)
    domain = line_walk.LineWalk(is_dict=True)
    path = os.path.join(self._policy, 'parity.json')
    for task, warnings in ((domain.name, 0), ('Reach', 1), (None, 0)):
      with open(path, 'w', encoding='utf-8') as file:
        json.dump({'task': task}, file)
      with mock.patch.object(logging, 'warning') as warning:
        exported_policy.ExportedPolicy(self._policy, domain)
      self.assertEqual(warning.call_count, warnings)

  def test_action_beyond_the_raw_bounds_is_an_error(self):
    _save(
        self._policy,
        lambda observation, seed: {'action': observation[:, :1] * 0.0 + 1.01},
        observation=_FLAT,
        seed=_SEED,
    )
    domain = line_walk.LineWalk()
    act = exported_policy.ExportedPolicy(self._policy, domain)
    # 1.01 of [-3, 1] is 1.005 of [-1, 1].
    with self.assertRaisesRegex(ValueError, r'in \[-1, 1\], got 1.00'):
      evaluation.Evaluator(domain, num_episodes=2, seed=0).run(act)

  def test_rounding_at_the_raw_bounds_is_clipped(self):
    _save(
        self._policy,
        lambda observation, seed: {
            'action': observation[:, :1] * 0.0 + np.float32(1.000001)
        },
        observation=_FLAT,
        seed=_SEED,
    )
    act = exported_policy.ExportedPolicy(self._policy, line_walk.LineWalk())
    action = act(np.zeros([1, 2], np.float32), np.zeros([2], np.int32))
    np.testing.assert_array_equal(action, [[1.0]])

  def test_missing_policy_is_an_error(self):
    with self.assertRaisesRegex(ValueError, 'SavedModel.*is not a directory'):
      exported_policy.ExportedPolicy(self._policy, line_walk.LineWalk())
    with self.assertRaisesRegex(ValueError, r"SavedModel.*holds \['notes'\]"):
      pathlib.Path(self._dir, 'notes').touch()
      exported_policy.ExportedPolicy(self._dir, line_walk.LineWalk())

  def test_missing_signature_is_an_error(self):
    tf.saved_model.save(tf.Module(), self._policy)
    with self.assertRaisesRegex(
        ValueError, r"must have the signature 'serving_default', got \[\]"
    ):
      exported_policy.ExportedPolicy(self._policy, line_walk.LineWalk())

  @parameterized.named_parameters(
      (
          'width',
          lambda observation, seed: {'action': observation[:, :1]},
          {'observation': tf.TensorSpec([None, 3], tf.float32), 'seed': _SEED},
          r"'observation'.*shape \(None, 2\).*got \(None, 3\)",
      ),
      (
          'dtype',
          lambda observation, seed: {'action': observation[:, :1]},
          {'observation': tf.TensorSpec([None, 2], tf.float64), 'seed': _SEED},
          'float32.*float64',
      ),
      (
          'names',
          _dict_policy,
          {'place': _PART, 'time': _PART, 'seed': _SEED},
          r"inputs \['observation', 'seed'\].*got \['place', 'seed', 'time'\]",
      ),
      (
          'action',
          lambda observation, seed: {'action': observation},
          {'observation': _FLAT, 'seed': _SEED},
          r"'action'.*shape \(None, 1\).*got \(None, 2\)",
      ),
      (
          'output',
          lambda observation, seed: {'force': observation},
          {'observation': _FLAT, 'seed': _SEED},
          r"output 'action', got \['force'\]",
      ),
  )
  def test_policy_of_another_domain_is_an_error(self, function, specs, message):
    _save(self._policy, function, **specs)
    with self.assertRaisesRegex(ValueError, message):
      exported_policy.ExportedPolicy(self._policy, line_walk.LineWalk())

  def test_outputs_are_checked_before_an_episode_is_played(self):
    path = self.create_tempfile('walk.mp4').full_path
    for flag, message in (
        (f'--video={path}', 'walk.mp4 exists'),
        (f'--video={path}/a.mp4', 'walk.mp4 is a file'),
        (f'--episodes={path}/a', '`episodes` must be a directory'),
    ):
      done = subprocess.run(
          [sys.executable, '-m', 'parl_tf.binaries.evaluate',
           '--root_dir=no_such_run', flag],
          capture_output=True, text=True, check=False,
      )
      self.assertNotEqual(done.returncode, 0)
      self.assertIn(message, done.stderr)

  @parameterized.parameters('.mp4', '.gif')
  def test_a_video_has_the_proportions_of_the_pictures(self, extension):
    path = os.path.join(self._dir, f'walk{extension}')
    environment = mock.Mock()
    environment.render.return_value = np.zeros([33, 50, 3], np.uint8)
    with video.VideoRecorder(path) as recorder:
      recorder([environment], [True], 0)

    with imageio.get_reader(path) as reader:
      self.assertEqual(reader.get_data(0).shape[:2], (34, 50))

  def test_video_without_rendering_is_an_error(self):
    domain = line_walk.LineWalk(draws=False)
    evaluator = evaluation.Evaluator(domain, num_episodes=1, seed=0)
    path = os.path.join(self._dir, 'walk.mp4')
    with self.assertRaisesRegex(ValueError, 'does not render images'):
      with video.VideoRecorder(path) as recorder:
        evaluator.run(lambda observation, seed: np.ones([1, 1]), recorder)


if __name__ == '__main__':
  absltest.main()
