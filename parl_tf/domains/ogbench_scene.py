"""Makes and draws OGBench's environments, which share their compiled models."""

import atexit
import copy
import functools
from typing import Any, Optional, Tuple

from dm_env import specs
import numpy as np

from parl_tf.domains import rendering

_CAMERA = 'front_pixels'  # OGBench's for images; videos have a wider view.
_FAST_SHADOW_SIZE = 1024  # Pixels of the shadow map; OGBench has 4096.


def load(name: str, **options: Any) -> Any:
  """Makes an OGBench environment by name, without a time limit."""
  # Imported lazily: the imports are slow, and not every caller needs them.
  import gymnasium  # pylint: disable=g-import-not-at-top
  try:
    import ogbench  # pylint: disable=g-import-not-at-top
  except ImportError as error:
    raise ImportError(
        'OGBench tasks need ogbench: pip install "parl_tf[ogbench]".'
    ) from error
  gymnasium.register_envs(ogbench)
  return gymnasium.make(name, **options).unwrapped


def forget(model: Any, data: Any) -> None:
  """Clears what an OGBench reset leaves over: warm start, forces, contacts.

  OGBench's reset takes some unseeded actions and then restores only positions
  and velocities.
  """
  import mujoco  # pylint: disable=g-import-not-at-top

  names = ('qpos', 'qvel', 'mocap_pos', 'mocap_quat')
  kept = {name: getattr(data, name).copy() for name in names}
  mujoco.mj_resetData(model, data)
  for name, array in kept.items():
    getattr(data, name)[:] = array
  mujoco.mj_forward(model, data)


def image_spec(size: int) -> specs.Array:
  """Returns the spec of what `draw` returns."""
  return specs.Array((size, size, 3), np.uint8, 'observation')


def draw(scene: Any) -> np.ndarray:
  """Returns a picture `[image_size, image_size, 3]` uint8 of an environment.

  Buttons and locks have the colours of the environment that was stepped or
  reset last, because environments share them.
  """
  return scene.render(camera=_CAMERA)


def colors(model: Any) -> Tuple[np.ndarray, np.ndarray]:
  """Returns copies of the colours that environments of a kind share."""
  return model.geom_rgba.copy(), model.mat_rgba.copy()


def restore_colors(
    model: Any, of_environment: Tuple[np.ndarray, np.ndarray]
) -> None:
  """Gives a shared model the colours that `colors` has returned."""
  model.geom_rgba[:], model.mat_rgba[:] = of_environment


def make(
    kind: str,
    task: int,
    image_size: Optional[int] = None,
    fast_images: bool = False,
    *,
    is_play: bool = False,
) -> Any:
  """Returns an OGBench environment with its own simulator state.

  With `is_play`, resets and targets are random, and success ends no episode.
  With an `image_size`, `draw` shows it as OGBench's visual tasks do (with
  `fast_images`, without anti-aliasing and with coarser shadows); its own
  observations are states nevertheless, so that not each step draws one.

  Parsing a scene takes 0.8 s, and its compiled model takes 60 MiB, so all
  environments of a kind share them. They only read them, except for the cube
  colours, which depend on success, and the properties that buttons change.

  Raises:
    ValueError: If there is an `image_size`, but no renderer.
  """
  import mujoco  # pylint: disable=g-import-not-at-top

  first = _first_scene(kind, image_size, fast_images)
  scene = copy.copy(first)
  scene._reward_task_id = task  # pylint: disable=protected-access
  scene._data = mujoco.MjData(first.model)  # pylint: disable=protected-access
  scene._ik = copy.copy(first._ik)  # pylint: disable=protected-access
  scene._ik._data = mujoco.MjData(first._ik._model)  # pylint: disable=protected-access
  scene._np_random = None  # pylint: disable=protected-access
  scene._reset_next_step = True  # pylint: disable=protected-access
  if is_play:
    scene._mode = 'data_collection'  # pylint: disable=protected-access
    scene._terminate_at_goal = False  # pylint: disable=protected-access
    for name in ('_cur_button_states', '_target_button_states'):
      if hasattr(scene, name):  # OGBench overwrites them in place.
        setattr(scene, name, getattr(scene, name).copy())
  return scene


@functools.lru_cache(maxsize=None)
def _first_scene(
    kind: str, image_size: Optional[int], fast_images: bool
) -> Any:
  """Returns the environment whose model all environments of a kind share."""
  if image_size is None:
    scene = load(f'{kind}-singletask-v0')
    scene.reset(seed=0)
    return scene
  scene = load(
      f'visual-{kind}-singletask-v0',
      width=image_size,
      height=image_size,
      disable_env_checker=True,  # It would draw.
  )
  # pylint: disable=protected-access
  scene._mjcf_model = scene.build_mjcf_model()  # With the colours of images.
  scene._ob_type = 'states'
  scene.reset(seed=0)
  if fast_images:
    scene.model.vis.quality.offsamples = 0
    scene.model.vis.quality.shadowsize = _FAST_SHADOW_SIZE
  with rendering.explained(f'{kind} cannot be drawn'):
    scene._initialize_renderer()
  # MuJoCo prints errors if Python's exit destroys a renderer.
  atexit.register(scene._renderer.close)
  # pylint: enable=protected-access
  return scene
