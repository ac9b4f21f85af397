"""Tests of OGBench's manipulation tasks with images."""

import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import mujoco
import numpy as np
import pytest

from parl_tf.domains import ogbench
from parl_tf.domains import ogbench_scene

_SIZE = 8

# Prints whether images equal those of OGBench's environment in the same state.
_COMPARE = '''
import mujoco
import numpy as np
from parl_tf.domains import ogbench
from parl_tf.domains import ogbench_scene

for make, kind in (
    (ogbench.Cube, 'cube-single'),
    (ogbench.Scene, 'scene'),
    (ogbench.Puzzle, 'puzzle-3x3'),
):
  task = make(task=1, image_size=64)
  environment = task.make_environment(0, evaluation=True)
  other = task.make_environment(1, evaluation=True)
  theirs = ogbench_scene.load(f'visual-{kind}-singletask-task1-v0')
  theirs.reset(seed=0)
  controller = task.make_controller(environment)
  controller.reset(0)
  time_step = environment.reset()
  other.reset()
  for _ in range(30):
    time_step = environment.step(controller.action(time_step, environment))
    state = environment.info()
    theirs.data.qpos[:] = state['qpos']
    theirs.data.qvel[:] = state['qvel']
    if 'button_states' in state:
      theirs._cur_button_states[:] = state['button_states'].astype(int)
      theirs._apply_button_states()
    mujoco.mj_forward(theirs.model, theirs.data)
    difference = theirs.compute_observation().astype(int)
    difference -= time_step.observation
    print('mean difference', np.abs(difference).mean())
'''


class FakeRenderer:
  """Replaces `mujoco.Renderer`; a pixel is the number of pictures so far."""

  made = []

  def __init__(self, model, height, width):
    self.shape = (height, width, 3)
    quality = model.vis.quality
    self.quality = quality.offsamples, quality.shadowsize
    self.cameras = []
    FakeRenderer.made.append(self)

  def update_scene(self, data, camera, **unused_options):
    self.cameras.append(camera)

  def render(self):
    return np.full(self.shape, len(self.cameras), np.uint8)

  def disable_depth_rendering(self):
    pass

  def disable_segmentation_rendering(self):
    pass

  def close(self):
    pass


class ImageTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    FakeRenderer.made = []
    self.enter_context(mock.patch.object(mujoco, 'Renderer', FakeRenderer))
    # No other test may get an environment with this renderer.
    ogbench_scene._first_scene.cache_clear()
    self.addCleanup(ogbench_scene._first_scene.cache_clear)

  @parameterized.parameters(ogbench.Cube, ogbench.Scene, ogbench.Puzzle)
  def test_a_decision_draws_one_image(self, task_class):
    task = task_class(image_size=_SIZE, action_repeat=3)
    environment = task.make_environment(0, evaluation=True)
    first = environment.reset()
    second = environment.step(np.zeros([5], np.float32))

    self.assertEqual(task.observation_spec().shape, (_SIZE, _SIZE, 3))
    self.assertEqual(task.observation_spec(), environment.observation_spec())
    environment.observation_spec().validate(second.observation)
    self.assertEqual(first.observation[0, 0, 0], 1)
    self.assertEqual(second.observation[0, 0, 0], 2)
    self.assertEqual(
        FakeRenderer.made[0].cameras, ['front_pixels', 'front_pixels']
    )

  def test_environments_share_a_renderer(self):
    task = ogbench.Cube(image_size=_SIZE)
    for seed in range(3):
      task.make_environment(seed, evaluation=True).reset()

    self.assertLen(FakeRenderer.made, 1)

  def test_fast_images_have_coarser_shadows_and_no_anti_aliasing(self):
    for fast in (False, True):
      task = ogbench.Cube(image_size=_SIZE, fast_images=fast)
      task.make_environment(0, evaluation=True)

    self.assertEqual(
        [x.quality for x in FakeRenderer.made], [(4, 4096), (0, 1024)]
    )

  def test_play_draws_one_image_per_decision(self):
    task = ogbench.Puzzle(image_size=_SIZE, action_repeat=2)
    environment = task.make_play_environment(0)
    controller = task.make_play_controller(environment)
    controller.reset(0)
    time_step = environment.reset()
    for number in range(2, 5):
      time_step = environment.step(controller.action(time_step, environment))
      self.assertEqual(time_step.observation[0, 0, 0], number)

    self.assertIn('task_rewards', environment.step_info())

  def test_the_motion_is_that_without_images(self):
    ends = []
    for options in ({}, {'image_size': _SIZE}):
      task = ogbench.Cube(**options)
      environment = task.make_environment(3, evaluation=True)
      time_step = environment.reset()
      controller = task.make_controller(environment)
      controller.reset(0)
      for _ in range(5):
        time_step = environment.step(controller.action(time_step, environment))
      ends.append(environment.info()['qpos'])

    np.testing.assert_array_equal(ends[0], ends[1])

  def test_a_missing_renderer_is_explained(self):
    error = mujoco.FatalError('no OpenGL context')
    with mock.patch.object(mujoco, 'Renderer', side_effect=error):
      with self.assertRaisesRegex(
          ValueError, 'cube-single cannot be drawn.*no OpenGL.*MUJOCO_GL=egl'
      ):
        ogbench.Cube(image_size=_SIZE).make_environment(0, evaluation=True)

  def test_a_size_out_of_range_is_an_error(self):
    with self.assertRaisesRegex(ValueError, r'`image_size` must be in \[1'):
      ogbench.Cube(image_size=0)


@pytest.mark.full  # Needs OpenGL.
class DrawnTest(absltest.TestCase):

  def test_images_are_those_of_ogbench(self):
    result = subprocess.run(
        [sys.executable, '-c', _COMPARE],
        env={**os.environ, 'MUJOCO_GL': os.environ.get('MUJOCO_GL', 'egl')},
        capture_output=True,
        text=True,
        check=True,
    )

    differences = [
        float(line.split()[-1])
        for line in result.stdout.splitlines()
        if line.startswith('mean difference')
    ]
    self.assertLen(differences, 90)
    # Of 255; after a step OGBench draws poses that are one step of physics old.
    self.assertLess(max(differences), 0.5)


if __name__ == '__main__':
  absltest.main()
