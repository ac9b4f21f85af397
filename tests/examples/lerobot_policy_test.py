"""Tests the example that serves LeRobot's policies.

The tests marked `full` install LeRobot into an environment of its own, as the
example's README describes. They need 3 GB of disk.
"""

import os
import subprocess

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

from parl_tf import types
from parl_tf.datasets import lerobot_writer
from parl_tf.serving import client as client_lib
from tests import build_files
from tests.domains import example_server
from tests.examples import own_environment

_EXAMPLE = build_files.ROOT / 'examples' / 'lerobot_policy'

_TRAIN = """--policy.n_action_steps=2 --policy.push_to_hub=false
--policy.device=cpu --batch_size=8 --steps=3 --num_workers=0 --seed=0
--policy.normalization_mapping={"STATE":"MIN_MAX","ENV":"MIN_MAX","ACTION":"MIN_MAX"}
""".split()
_DIFFUSION = """--policy.type=diffusion --policy.horizon=4
    --policy.down_dims=[16] --policy.num_train_timesteps=4
    --policy.diffusion_step_embed_dim=8 --policy.drop_n_last_frames=0"""
_SMOLVLA = """--policy.type=smolvla --policy.chunk_size=4
    --policy.n_action_steps=2 --policy.num_vlm_layers=2
    --policy.resize_imgs_with_padding=[48,48] --policy.max_state_dim=4
    --policy.max_action_dim=4 --policy.push_to_hub=false
    --policy.device=cpu""".split()
_WRITE_TINY = """
import sys
import torchvision_operators
torchvision_operators.import_torchvision()
import tiny_model
tiny_model.write(sys.argv[1], action_size=2)
"""
_POLICIES = {
    'diffusion': f'''{_DIFFUSION} --policy.n_obs_steps=1
      --policy.noise_scheduler_type=DDIM''',
    'diffusion_history': f'{_DIFFUSION} --policy.n_obs_steps=2',
    'act': """--policy.type=act --policy.chunk_size=4 --policy.dim_model=16
      --policy.n_heads=2 --policy.dim_feedforward=16 --policy.latent_dim=4
      --policy.n_encoder_layers=1 --policy.n_vae_encoder_layers=1""",
}


class LerobotImportsTest(absltest.TestCase):

  def test_no_file_of_the_example_imports_tensorflow(self):
    found = own_environment.imports(_EXAMPLE)
    self.assertContainsSubset(['lerobot', 'parl_tf.serving'], found)
    # `dependency_test` checks that this package imports no TensorFlow.
    self.assertNoCommonElements(found, {'tensorflow', 'tf_agents', 'gin'})
    self.assertLen([x for x in found if x.startswith('parl_tf')], 1)


@pytest.mark.full
class LerobotPolicyTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._python = own_environment.make(
        cls,
        'PARL_LEROBOT_PYTHON',
        [
            ['-r', str(_EXAMPLE / 'requirements.txt')],
            ['--no-deps', 'lerobot==0.4.4'],
        ],
    )

  def setUp(self):
    super().setUp()
    self._directory = self.create_tempdir().full_path
    random = np.random.default_rng(0)
    self._states = random.uniform(-1.0, 1.0, [6, 11, 3]).astype(np.float32)
    self._write('dataset', self._states)

  @parameterized.parameters(
      ('diffusion', 0), ('diffusion', 2), ('act', 0), ('act', 2),
      ('diffusion_history', 0), ('diffusion_history', 2),
  )
  def test_a_checkpoint_is_trained_sampled_fitted_and_loaded(self, kind, rank):
    self._run(
        'train.py', '--dataset.repo_id=local/toy',
        f'--dataset.root={self._path("dataset")}',
        f'--output_dir={self._path("base")}',
        *_TRAIN, *_POLICIES[kind].split(),
    )
    client = self._serve(rank)
    num_frames = 2 if kind == 'diffusion_history' else 1
    last = self._states[:, 3 - num_frames : 3]
    states = {'observation': last.reshape(6, -1)}

    before = client.sample(states, 3, seed=5)
    again = client.sample(states, 3, seed=5)
    other = client.sample(states, 3, seed=6)
    self.assertEqual(client.spec.has_temperature, kind == 'diffusion')
    if client.spec.has_temperature:
      modes = client.sample(states, 3, seed=6, temperature=0.0).actions
      np.testing.assert_allclose(
          modes, np.repeat(modes[:, :1], 3, axis=1), atol=1e-5
      )
      cool = client.sample(states, 3, seed=6, temperature=0.1).actions
      self.assertLess(np.std(cool - modes), 0.5 * np.std(other.actions - modes))
    trained = client.train(
        states, np.full([6, 2, 2], 0.25), num_steps=60, seed=0,
        version=before.version, mask=np.tile([[1.0, 0.0]], [6, 1]),
    )
    client.save(trained.version)
    after = client.sample(states, 3, seed=5)

    self.assertEqual(client.spec.stochastic, kind != 'act')
    if num_frames > 1:  # Earlier frames matter, in their order.
      swapped = {'observation': last[:, ::-1].reshape(6, -1)}
      self.assertFalse(
          np.allclose(client.sample(swapped, 3, seed=5).actions, after.actions)
      )
    self.assertEqual(before.actions.shape, (6, 3, 2, 2))
    np.testing.assert_array_equal(before.actions, again.actions)
    self.assertEqual(
        np.array_equal(before.actions, other.actions), kind == 'act'
    )
    losses = next(iter(trained.losses.values()))
    self.assertLess(np.mean(losses[-10:]), np.mean(losses[:10]))
    self.assertLess(
        np.mean(np.abs(after.actions - 0.25)),
        0.7 * np.mean(np.abs(before.actions - 0.25)),
    )
    # LeRobot sees a chunk of two steps before these.
    np.save(self._path('states.npy'), self._states[:, :3].swapaxes(0, 1))
    single = client.sample(states, 1, seed=5)
    self._run(
        'plain_lerobot.py',
        os.path.join(self._path('versions'), trained.version),
        self._path('states.npy'), self._path('actions.npy'), '5',
    )
    np.testing.assert_array_equal(
        np.load(self._path('actions.npy')), single.actions[:, 0]
    )

  @parameterized.parameters(0, 4)
  def test_a_tiny_smolvla_that_sees_and_reads(self, rank):
    # Its real weights cannot be downloaded here.
    tiny = self._path('tiny')
    subprocess.run(
        [self._python, '-c', _WRITE_TINY, tiny],
        env=_environment(
            PYTHONPATH=f'{_EXAMPLE}:{_EXAMPLE.parent / "openvla_policy"}'
        ),
        check=True,
    )
    states = self._states[:, :11]
    images = np.zeros([6, 11, 48, 48, 3], np.uint8)
    images[:] = 127.5 * (states[:, :, np.newaxis, np.newaxis] + 1.0)
    self._write(
        'images', [{'state': x, 'image': y} for x, y in zip(states, images)]
    )
    self._run(
        'train.py', '--dataset.repo_id=local/toy',
        f'--dataset.root={self._path("images")}',
        f'--output_dir={self._path("base")}', '--steps=3', '--batch_size=8',
        '--num_workers=0', '--seed=0', f'--policy.vlm_model_name={tiny}',
        *_SMOLVLA,
    )
    client = self._serve(rank)
    observation = {
        'observation.state': states[:, 2],
        'observation.image': images[:, 2],
        'task': np.array(['copy'] * 6),
    }

    before = client.sample(observation, 3, seed=5)
    modes = client.sample(observation, 3, seed=5, temperature=0.0).actions
    trained = client.train(
        observation, np.full([6, 2, 2], 0.25), num_steps=100, seed=0,
        version=before.version,
    )
    client.save(trained.version)
    after = client.sample(observation, 3, seed=5).actions
    other = client.sample(
        {**observation, 'observation.image': 255 - images[:, 2]}, 3, seed=5
    ).actions

    np.testing.assert_allclose(
        modes, np.repeat(modes[:, :1], 3, axis=1), atol=1e-5
    )
    self.assertGreater(np.std(before.actions - modes), 0.1)
    self.assertLess(
        np.mean(np.abs(after - 0.25)),
        0.5 * np.mean(np.abs(before.actions - 0.25)),
    )
    self.assertFalse(np.array_equal(after, other))
    # LeRobot sees a chunk of two steps before these.
    np.savez(
        self._path('states.npz'),
        **{
            'observation.state': states[:, :3].swapaxes(0, 1),
            'observation.image': images[:, :3].swapaxes(0, 1),
            'task': np.full([3, 6], 'copy'),
        },
    )
    single = client.sample(observation, 1, seed=5)
    self._run(
        'plain_lerobot.py',
        os.path.join(self._path('versions'), trained.version),
        self._path('states.npz'), self._path('actions.npy'), '5',
    )
    np.testing.assert_array_equal(
        np.load(self._path('actions.npy')), single.actions[:, 0]
    )

  def _serve(self, rank):
    """Serves the trained checkpoint; returns a client."""
    port = example_server.free_port()
    server = subprocess.Popen(
        [
            self._python, str(_EXAMPLE / 'server.py'),
            self._path('base/checkpoints/last/pretrained_model'),
            f'--port={port}', f'--directory={self._path("versions")}',
            '--learning_rate=0.01', '--batch_size=32', f'--lora_rank={rank}',
        ],
        env=_environment(),
    )
    self.addCleanup(server.wait)
    self.addCleanup(server.terminate)
    return self.enter_context(
        client_lib.PolicyClient(f'127.0.0.1:{port}', patience_seconds=120)
    )

  def _write(self, name, observations):
    """Writes a dataset whose actions are the first two states."""
    lerobot_writer.write(
        self._path(name),
        [
            types.Episode(
                observation=observation,
                action=state[:-1, :2],
                reward=np.zeros([10], np.float32),
                discount=np.ones([10], np.float32),
                success=np.zeros([10], np.bool_),
            )
            for observation, state in zip(observations, self._states)
        ],
        rate=10,
        instruction='copy',
    )

  def _path(self, name):
    return os.path.join(self._directory, name)

  def _run(self, program, *arguments):
    done = subprocess.run(
        [self._python, str(_EXAMPLE / program), *arguments],
        env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )
    self.assertEqual(done.returncode, 0, done.stdout[-3000:])


def _environment(**variables):
  return dict(os.environ, HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1', **variables)


if __name__ == '__main__':
  absltest.main()
