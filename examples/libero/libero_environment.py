"""LIBERO's tasks as a gymnasium environment, for the example server.

  PYTHONPATH=examples/libero python examples/remote_environment/server.py \
      --module libero_environment --environment Libero-v0

LIBERO: Liu et al. (2023), arXiv:2306.03310, from the package `hf-libero`. This
file does not depend on parl_tf.
"""

import functools
import os
import sys
import threading

import gymnasium
from gymnasium import spaces
import numpy as np

# Names in LIBERO's data files, and of its cameras.
_CAMERAS = {
    'agentview_rgb': 'agentview',
    'eye_in_hand_rgb': 'robot0_eye_in_hand',
}
_ACTION_SIZE = 7
_NUM_SETTLING_STEPS = 5  # As in LIBERO's own evaluation.
_INSTRUCTION_SIZE = 128  # Bytes; the longest of the 130 instructions has 88.
# LIBERO draws from NumPy's global generator, which all threads share.
_DRAWING = threading.Lock()


class LiberoEnvironment(gymnasium.Env):
  """A LIBERO task, with 0.05 s per step.

  Observations are dicts of float32 arrays, named as in LIBERO's data files:
  `joint_states` `[7]` in radians, `ee_states` `[6]` (position in metres,
  axis-angle in radians), `gripper_states` `[2]` in metres. With images there
  are also `agentview_rgb` and `eye_in_hand_rgb` `[size, size, 3]` uint8, with
  the bottom row first as in those files. Without images there is `physics`,
  the positions and velocities of all objects. Actions `[7]`: changes of
  position (3) and orientation (3), gripper (-1 opens it). The reward is 1 at
  success, which ends the episode.
  """

  def __init__(
      self,
      suite: str,
      task: int,
      *,
      initial_state: int = -1,
      images: bool = True,
      image_size: int = 128,
      instruction: bool = False,
  ):
    """Initializes the task.

    Args:
      suite: `libero_spatial`, `libero_object`, `libero_goal`, `libero_90` or
        `libero_10`.
      task: Index of the task in the suite.
      initial_state: Index of the task's initial state; -1 draws one at each
        reset.
      images: Whether to render the cameras.
      image_size: Height and width of the images.
      instruction: Whether observations include `instruction` `[128]` uint8, the
        task's instruction in UTF-8, padded with zeros.

    Raises:
      FileNotFoundError: If LIBERO's assets are missing and cannot be
        downloaded.
      ValueError: If an argument is out of range.
    """
    benchmark, env_wrapper = _import_libero()
    _check('suite', suite, benchmark.libero_suites)
    found = benchmark.get_benchmark(suite)()
    _check('task', task, range(found.get_num_tasks()))
    _check('image_size', image_size, range(1, 4097))
    self._initial_states = found.get_task_init_states(task)
    _check('initial_state', initial_state, range(-1, len(self._initial_states)))
    self._initial_state = initial_state
    self._images = images
    with _DRAWING:
      self._world = env_wrapper.ControlEnv(
          found.get_task_bddl_file_path(task),
          use_camera_obs=images,
          has_offscreen_renderer=images,
          camera_names=list(_CAMERAS.values()),
          camera_heights=image_size,
          camera_widths=image_size,
          ignore_done=True,  # The client defines the episode length.
          # Reloading the scene at each reset takes seconds, and leaves samplers
          # behind that make the next draws depend on earlier episodes.
          hard_reset=False,
      )
    self._instruction = {}
    if instruction:
      text = found.get_task(task).language.encode()
      padded = text.ljust(_INSTRUCTION_SIZE, b'\0')
      self._instruction['instruction'] = np.frombuffer(padded, np.uint8)
    self.action_space = spaces.Box(-1.0, 1.0, (_ACTION_SIZE,))
    self.observation_space = spaces.Dict({
        name: spaces.Box(0, 255, part.shape, np.uint8)
        if part.dtype == np.uint8
        else spaces.Box(-np.inf, np.inf, part.shape)
        for name, part in self.reset(seed=0)[0].items()
    })

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed, options=options)
    index = self._initial_state
    if index < 0:
      index = int(self.np_random.integers(len(self._initial_states)))
    self._place_fixtures()
    # robosuite keeps the last gripper command across resets.
    gripper = self._world.robots[0].gripper
    gripper.current_action = np.zeros_like(gripper.current_action)
    parts = self._world.set_init_state(self._initial_states[index])
    for _ in range(_NUM_SETTLING_STEPS):
      parts, *_ = self._world.step(np.zeros([_ACTION_SIZE]))
    return self._observe(parts), {'success': self._is_success()}

  def step(self, action):
    parts, *_ = self._world.step(action)
    success = self._is_success()
    observation = self._observe(parts)
    return observation, float(success), success, False, {'success': success}

  def close(self):
    self._world.close()

  def _place_fixtures(self) -> None:
    """Draws the positions of the fixtures, which initial states do not set."""
    from robosuite.utils import errors

    with _DRAWING:
      np.random.seed(self.np_random.integers(2**32))
      while True:
        try:
          self._world.env.reset()
          return
        except errors.RandomizationError:
          pass  # The objects did not fit next to each other.

  def _is_success(self) -> bool:
    return bool(self._world.check_success())

  def _observe(self, parts):
    """Converts robosuite's dict of sensors to the observation."""
    from robosuite.utils import transform_utils

    turn = transform_utils.quat2axisangle(parts['robot0_eef_quat'])
    vectors = {
        'joint_states': parts['robot0_joint_pos'],
        'ee_states': np.concatenate([parts['robot0_eef_pos'], turn]),
        'gripper_states': parts['robot0_gripper_qpos'],
    }
    images = {}
    if self._images:
      for name, camera in _CAMERAS.items():
        images[name] = parts[f'{camera}_image']
    else:
      # The first entry of the flat state is the time.
      vectors['physics'] = self._world.get_sim_state()[1:]
    return {
        **{name: x.astype(np.float32) for name, x in vectors.items()},
        **images,
        **self._instruction,
    }


@functools.lru_cache(maxsize=None)
def _import_libero():
  """Imports LIBERO after writing its configuration file.

  Returns:
    LIBERO's modules `benchmark` and `env_wrapper`.

  Raises:
    FileNotFoundError: If its assets are missing and cannot be downloaded.
  """
  # Without this file LIBERO prompts at the terminal during import.
  folder = os.environ.setdefault(
      'LIBERO_CONFIG_PATH', os.path.join(sys.prefix, 'libero')
  )
  path = os.path.join(folder, 'config.yaml')
  if not os.path.exists(path):
    import libero

    root = os.path.join(os.path.dirname(libero.__file__), 'libero')
    os.makedirs(folder, exist_ok=True)
    with open(path, 'w', encoding='utf-8') as file:
      file.write(
          f'benchmark_root: {root}\nbddl_files: {root}/bddl_files\n'
          f'init_states: {root}/init_files\ndatasets: {root}/datasets\n'
          f'assets: {root}/assets\n'
      )
  from libero.libero import benchmark
  from libero.libero import get_assets_path
  from libero.libero.envs import env_wrapper

  assets = get_assets_path()  # Downloads them if they are missing.
  if not os.path.isdir(assets):
    raise FileNotFoundError(
        f"LIBERO's assets (meshes, textures, scenes) must be in {assets}, but"
        ' are missing and could not be downloaded; see the error above and'
        ' README.md.'
    )
  return benchmark, env_wrapper


def _check(name, value, choices) -> None:
  if value not in choices:
    raise ValueError(f'`{name}` must be in {choices}, got {value!r}.')


gymnasium.register('Libero-v0', LiberoEnvironment, disable_env_checker=True)
