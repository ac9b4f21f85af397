"""Tests the example that serves OpenVLA-style models.

The test marked `full` installs PyTorch and transformers into an environment of
its own, as the example's README describes, and runs the whole recipe of
`experiments/openvla.gin` with a tiny model of random weights.
"""

import contextlib
import csv
import glob
import hashlib
import importlib.util
import json
import os
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from parl_tf.replay import action_cache
from parl_tf.serving import client as client_lib
from tests import build_files
from tests.domains import example_server
from tests.examples import own_environment

_EXAMPLE = build_files.ROOT / 'examples' / 'openvla_policy'
_WORDS = ('go', 'to', 'the', 'red', 'blue', 'square')
_GIN_FILES = (
    '--gin_file=experiments/openvla.gin', '--gin_file=domains/drawn_maze.gin'
)
_BINDINGS = """
DrawnMaze.goal_cells = ((7, 9), (1, 1))
PointMaze.max_episode_steps = 40
RemotePolicy.keys = {'picture': 'image'}
RemotePolicy.constants = {}
CriticEnsemble.num_members = 2
CriticEnsemble.hidden_sizes = (16,)
ImageEncoder.stage_widths = (4, 8)
ImageEncoder.blocks_per_stage = 1
ImageEncoder.feature_size = 16
CalQLCritic.num_conservative_actions = 1
ActionOptimizer.num_gradient_steps = 2
Search.jit_compile = False
run_experiment.num_evaluation_episodes = 2
Offline.num_steps = 4
Offline.batch_size = 8
Offline.interval = 2
ServedOnline.num_epochs = 2
ServedOnline.episodes_per_epoch = 1
ServedOnline.critic_batch_size = 8
ServedOnline.critic_utd = 0.1
ServedOnline.num_fitted_rows = 24
ServedOnline.num_fit_steps = 40
ServedOnline.evaluation_interval = 2
""".strip().splitlines()


def _module(name):
  """Imports a file of the example that needs NumPy alone."""
  spec = importlib.util.spec_from_file_location(name, _EXAMPLE / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


class ActionsTest(parameterized.TestCase):

  @parameterized.parameters(
      # 256 edges are 2/255 apart. The middle bin is between edges 127 and 128
      # (from 0), so it is the 128th from the end of the vocabulary.
      (0.0, 872, 0.0),
      (-1.0, 999, -1.0 + 1.0 / 255.0),
      (-3.0, 999, -1.0 + 1.0 / 255.0),
      (0.9999, 745, 1.0 - 1.0 / 255.0),
      (1.0, 744, 1.0 - 1.0 / 255.0),
      (3.0, 744, 1.0 - 1.0 / 255.0),
  )
  def test_tokens_are_the_last_ids_of_the_vocabulary(
      self, action, token, center
  ):
    tokens = _module('actions').ActionTokens(1_000)
    self.assertEqual(tokens.first, 744)
    self.assertEqual(tokens.encode(np.array(action)), token)
    self.assertAlmostEqual(float(tokens.decode(np.array(token))), center)

  @parameterized.parameters(743, 1_000)
  def test_other_tokens_are_no_actions(self, token):
    with self.assertRaisesRegex(ValueError, f'744, 1000.*{token}'):
      _module('actions').ActionTokens(1_000).decode(np.array([800, token]))

  def test_percentiles_scale_all_but_the_gripper(self):
    statistics = {
        'bridge': {
            'action': {
                'q01': [-0.1, 0.0, 0.0],
                'q99': [0.1, 2.0, 1.0],
                'mask': [True, True, False],
            }
        }
    }
    percentiles = _module('actions').Percentiles.from_statistics(
        statistics, 'bridge'
    )
    actions = np.array([[0.05, 3.0, 1.0], [-0.1, 0.5, 0.0]])
    scaled = np.array([[0.5, 1.0, 1.0], [-1.0, -0.5, 0.0]])

    np.testing.assert_allclose(percentiles.scale(actions), scaled)
    np.testing.assert_allclose(
        percentiles.unscale(scaled), [[0.05, 2.0, 1.0], [-0.1, 0.5, 0.0]],
        atol=1e-12,
    )

  @parameterized.parameters(
      ({}, "one of \\[\\], got 'maze'"),
      ({'maze': {'action': {'mean': [0.0]}}}, "`q99`.*got \\['mean'\\]"),
      (
          {'maze': {'action': {'q01': [0.0, 1.0], 'q99': [1.0, 1.0]}}},
          'below the 99th',
      ),
  )
  def test_statistics_without_percentiles_are_errors(self, statistics, message):
    with self.assertRaisesRegex(ValueError, message):
      _module('actions').Percentiles.from_statistics(statistics, 'maze')

  def test_no_file_of_the_example_imports_tensorflow(self):
    found = own_environment.imports(_EXAMPLE)
    self.assertContainsSubset(['transformers', 'parl_tf.serving'], found)
    # `dependency_test` checks that this package imports no TensorFlow.
    self.assertNoCommonElements(found, {'tensorflow', 'tf_agents', 'gin'})
    self.assertLen([x for x in found if x.startswith('parl_tf')], 1)


@pytest.mark.full
class OpenvlaPolicyTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._python = own_environment.make(
        cls,
        'PARL_OPENVLA_PYTHON',
        [['-r', str(_EXAMPLE / 'requirements.txt')]],
    )

  def setUp(self):
    super().setUp()
    self._directory = self.create_tempdir().full_path
    self._run([
        self._python, str(_EXAMPLE / 'tiny_model.py'), self._path('tiny'),
        '--action_size=2',
    ])

  def test_the_recipe_improves_the_adapter_alone(self):
    weights = self._path('tiny', 'model.safetensors')
    checksum = _digest(weights)
    address, worker = self._serve(), self._serve()
    client = self.enter_context(_connect(address))
    helper = self.enter_context(_connect(worker))
    initial = client.status()['version']
    self.assertEqual(helper.status()['version'], initial)
    policies = [f'--policy=ws://{address}']
    servers = [
        f'--gin_bindings=RemotePolicy.address = {address!r}',
        f'--gin_bindings=RemotePolicy.workers = ({worker!r},)',
    ]

    self._program(
        'evaluate', *policies, '--num_episodes=4',
        f'--episodes={self._path("trials")}',
    )
    self._program(
        'cache', *policies, f'--policy=ws://{worker}',
        f'--dataset={self._path("trials")}', f'--output={self._path("cache")}',
    )
    self._program(
        'train', *servers, f'--root_dir={self._path("run")}',
        '--gin_bindings=run_experiment.dataset_path = '
        f'{self._path("trials")!r}',
        f'--gin_bindings=Offline.action_cache = {self._path("cache")!r}',
    )

    # 16 samples of the trials' states, then 8 of all states in each epoch.
    cache = action_cache.ActionCache(self._path('cache'))
    cache.verify()
    self.assertEqual(cache.header.num_samples, 16)
    self.assertEqual(cache.header.version, initial)
    self.assertGreater(np.std(np.asarray(cache.samples)), 0.1)
    versions = sorted(
        client.status()['saved'], key=lambda x: x.partition('+')[2]
    )
    self.assertLen(versions, 3)
    self.assertEqual(versions[0], initial)
    segments = glob.glob(self._path('run', 'action_segments', '*', '*'))
    self.assertNotEmpty(segments)
    for directory in segments:
      header = action_cache.ActionCache(directory).header
      self.assertEqual(header.num_samples, 8)
      self.assertIn(header.version, versions)

    # Critic and policy were trained.
    with open(self._path('run', 'metrics.csv'), encoding='utf-8') as file:
      rows = list(csv.DictReader(file))
    losses = [float(x['served/loss']) for x in rows if x['served/loss']]
    self.assertLen(losses, 2)
    self.assertTrue(np.all(np.isfinite(losses)))
    trained = {x['phase'] for x in rows if x['losses/td']}
    self.assertEqual(trained, {'offline', 'online'})

    # Each version is another adapter of the same weights.
    self.assertEqual(_digest(weights), checksum)
    bases, adapters = set(), set()
    for version in versions:
      folder = self._path('versions', version)
      with open(os.path.join(folder, 'base.json'), encoding='utf-8') as file:
        bases.add(json.load(file)['checksum'])
      adapters.add(_digest(os.path.join(folder, 'adapter_model.safetensors')))
    self.assertLen(bases, 1)
    self.assertLen(adapters, 3)

    # Both servers have the last version. Versions differ in their samples, and
    # can be loaded again.
    self.assertEqual(helper.status()['version'], versions[-1])
    states = {
        'image': np.zeros([5, 48, 48, 3], np.uint8),
        'instruction': np.tile(np.array([0, 1, 2, 3, 5], np.float32), [5, 1]),
    }
    after = client.sample(states, 16, seed=1).actions
    np.testing.assert_array_equal(
        helper.sample(states, 16, seed=1).actions, after
    )
    client.load(initial)
    before = client.sample(states, 16, seed=1).actions
    self.assertGreater(np.mean(before != after), 0.1)
    client.load(versions[-1])
    np.testing.assert_array_equal(
        client.sample(states, 16, seed=1).actions, after
    )

  def test_a_fit_moves_the_samples_to_the_actions(self):
    client = self.enter_context(_connect(self._serve()))
    states = {
        'image': np.zeros([4, 48, 48, 3], np.uint8),
        'instruction': np.tile(np.array([0, 1, 2, 3, 5], np.float32), [4, 1]),
    }
    before = client.sample(states, 16, seed=0)
    actions = np.tile(np.array([0.5, -0.5], np.float32), [4, 1, 1])
    actions[3] = -1.0  # Masked.

    trained = client.train(
        states, actions, mask=np.array([[1.0]] * 3 + [[0.0]]), num_steps=150,
        seed=0, version=before.version,
    )
    after = client.sample(states, 16, seed=0)
    modes = client.sample(states, 16, seed=0, temperature=0.0).actions

    np.testing.assert_array_equal(modes, np.repeat(modes[:, :1], 16, axis=1))
    losses = next(iter(trained.losses.values()))
    self.assertLess(np.mean(losses[-10:]), 0.2 * np.mean(losses[:10]))
    self.assertGreater(np.mean(np.abs(before.actions - actions[0])), 0.4)
    self.assertLess(np.mean(np.abs(after.actions - actions[0])), 0.1)

  def test_text_and_bytes_are_the_same_instruction(self):
    client = self.enter_context(_connect(self._serve()))
    image = np.zeros([1, 48, 48, 3], np.uint8)
    text = 'go to the red square'
    drawn = [
        client.sample({'image': image, 'instruction': x}, 8, seed=0).actions
        for x in (
            np.array([text]),
            np.frombuffer(text.encode().ljust(40, b'\0'), np.uint8)[np.newaxis],
            np.array([[0, 1, 2, 3, 5]], np.float32),
            np.array(['go to the blue square']),
        )
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])
    self.assertFalse(np.array_equal(drawn[0], drawn[3]))

  def _path(self, *names):
    return os.path.join(self._directory, *names)

  def _serve(self):
    """Starts a server; returns its address."""
    port = example_server.free_port()
    server = subprocess.Popen(
        [
            self._python, str(_EXAMPLE / 'serve.py'), self._path('tiny'),
            '--dataset=tiny', f'--directory={self._path("versions")}',
            f'--port={port}', '--learning_rate=0.01', '--batch_size=8',
            '--max_batch=32', '--words', *_WORDS,
        ],
        env=_environment(),
    )
    self.addCleanup(server.wait)
    self.addCleanup(server.terminate)
    return f'127.0.0.1:{port}'

  def _program(self, name, *arguments):
    """Runs a program of ours with the recipe."""
    self._run([
        sys.executable, '-m', f'parl_tf.binaries.{name}', *_GIN_FILES,
        *(f'--gin_bindings={x}' for x in _BINDINGS), *arguments,
    ])

  def _run(self, command):
    done = subprocess.run(
        command, env=_environment(), cwd=build_files.ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )
    self.assertEqual(done.returncode, 0, done.stdout[-5000:])


@contextlib.contextmanager
def _connect(address):
  with client_lib.PolicyClient(address, patience_seconds=180) as client:
    yield client


def _digest(path):
  with open(path, 'rb') as file:
    return hashlib.sha256(file.read()).hexdigest()


def _environment():
  return dict(
      os.environ, HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1',
      TF_CPP_MIN_LOG_LEVEL='3',
  )


if __name__ == '__main__':
  absltest.main()
