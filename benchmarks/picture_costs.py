"""Measures what pictures cost: encoding, storage, and reading rows.

  python -m benchmarks.picture_costs

Prints five tables:

* The values of N actions at each state and their gradients, by a critic that
  reads each picture once and by one that reads it once per action, for both
  encoders. The peak is that of a process that does only this, beyond its memory
  before the first call.
* Bytes per stored transition in a table in memory, for stacks of three pictures
  of 48 x 48 pixels and for 100 x 100 pixels of two cameras, beside what each
  row of a batch takes.
* Transitions per second of 48 x 48 pixels from tables in memory, from pictures
  in a file, and from a replay service, without stacks.
* Milliseconds to write an episode of the log, synced, and to read it, and its
  size: as it is, and compressed. Pictures of the drawn maze have few colours;
  those of a camera compress less, and noise not at all.
* MiB by which a process grows whose replay service gets pictures of one colour
  and of noise: Reverb compresses its tables by itself.

Alternatives take turns; times are medians.
"""

import functools
import multiprocessing
import os
import tempfile
import time

from absl import app
from absl import flags
import gin
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import picture_store
from parl_tf import synced_file
from parl_tf import types
from parl_tf.critics import td
from parl_tf.domains import drawn_maze
from parl_tf.networks import image_networks
from parl_tf.networks import small_image_encoder
from parl_tf.replay import episode_log
from parl_tf.replay import experience
from parl_tf.replay import memory_experience
from parl_tf.replay import reverb_experience
from parl_tf.replay import step_table
from parl_tf.replay import stored_step
from parl_tf.replay import tables

_BATCH_SIZE = flags.DEFINE_integer('batch_size', 32, 'States.', lower_bound=1)
_NUM_ACTIONS = flags.DEFINE_integer('num_actions', 8, 'N.', lower_bound=1)
_REPEATS = flags.DEFINE_integer('repeats', 9, 'Repetitions.', lower_bound=1)
_ENCODERS = {
    'SmallImageEncoder': small_image_encoder.SmallImageEncoder,
    'ImageEncoder': image_networks.ImageEncoder,
}
_READINGS = ('once', 'per action')
_STORED = (
    ('48 x 48, 3 frames', {'picture': (48, 48, 3)}, 3),
    (
        '100 x 100, 2 cameras',
        {'front': (100, 100, 3), 'wrist': (100, 100, 3)},
        1,
    ),
)
_EPISODE_STEPS = 100
_NUM_EPISODES = 20
_ROWS = 128
_BATCHES = 20


def make_search(encoder, reading, batch_size, num_actions):
  """Returns a function that values actions and returns their gradients.

  Args:
    encoder: Name of the encoder.
    reading: 'once', or 'per action', which repeats each picture.
    batch_size: B, the number of states.
    num_actions: N, the number of actions of a state.
  """
  for name, value in (
      ('CriticEnsemble.num_members', 2),
      ('CriticEnsemble.hidden_sizes', (128, 128)),
      ('Critic.num_target_members', 2),
      ('ObservationEncoder.image_encoder_ctor', _ENCODERS[encoder]),
  ):
    gin.bind_parameter(name, value)
  critic = td.TDCritic(
      types.ModelSpec(
          {'picture': tf.TensorSpec([48, 48, 9], tf.uint8, 'picture')},
          tf.TensorSpec([2]),
      ),
      distribution_ctor=None,
  )
  random = np.random.default_rng(0)
  pictures = random.integers(0, 256, [batch_size, 48, 48, 9], np.uint8)
  actions = random.uniform(-1.0, 1.0, [batch_size, num_actions, 2])
  if reading == 'per action':
    pictures = pictures.repeat(num_actions, axis=0)
    actions = actions.reshape([-1, 1, 2])
  arguments = tf.constant(pictures), tf.constant(actions, tf.float32)

  @tf.function
  def search(pictures, actions):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(actions)
      values = critic.bind({'picture': pictures})(actions)
    return tape.gradient(values, actions)

  return lambda: search(*arguments).numpy().reshape([-1, 2])


def median_seconds(functions):
  """Returns the median seconds of each function, by name, in turns."""
  seconds = {name: [] for name in functions}
  for _ in range(_REPEATS.value):
    for name, function in functions.items():
      start = time.perf_counter()
      function()
      seconds[name].append(time.perf_counter() - start)
  return {name: float(np.median(x)) for name, x in seconds.items()}


def make_steps(first, shapes):
  """Returns the stored steps of an episode with random pictures."""
  random = np.random.default_rng(first)
  num_steps = _EPISODE_STEPS + 1
  scalars = functools.partial(np.zeros, [num_steps])
  return trajectory.Trajectory(
      step_type=scalars(np.int32),
      observation={
          name: random.integers(0, 256, [num_steps, *shape], np.uint8)
          for name, shape in shapes.items()
      },
      action=np.zeros([num_steps, 2], np.float32),
      policy_info={
          **{k: scalars(v) for k, v in types.POLICY_INFO_DTYPES.items()},
          'episode_id': np.full([num_steps], first, np.int64),
          'step_index': np.arange(num_steps, dtype=np.int32),
      },
      next_step_type=scalars(np.int32),
      reward=scalars(np.float32),
      discount=np.ones([num_steps], np.float32),
  )


def stored_bytes(shapes, num_frames):
  """Returns the bytes per transition that a table stores and that it reads."""
  table = step_table.StepTable('offline', 1_000, num_frames=num_frames)
  for i in range(10):
    table.add(make_steps(i, shapes), _EPISODE_STEPS)
  leaves = tf.nest.flatten(table._storage)  # pylint: disable=protected-access
  stored = sum(x[0].nbytes for x in leaves) * table.num_steps
  read = sum(x.nbytes for x in tf.nest.flatten(table.rows(np.arange(10))))
  return stored / table.num_transitions, read / 10


def _measure_peak(make, results):
  function = make()
  before = _peak_kib()
  function()
  results.put((_peak_kib() - before) / 1024)


def _peak_kib():
  # Unlike `getrusage`, without the memory of the process that started this one.
  with open('/proc/self/status', encoding='utf-8') as file:
    (line,) = (x for x in file if x.startswith('VmHWM'))
  return int(line.split()[1])


def _make_filling(color):
  """Returns a function that fills the tables of a replay service."""
  shapes = {'picture': (100, 100, 3)}
  steps = [make_steps(i, shapes) for i in range(_NUM_EPISODES)]
  if color is not None:
    for x in steps:
      x.observation['picture'][:] = color
  signature = stored_step.signature(
      {k: tf.TensorSpec(v, tf.uint8) for k, v in shapes.items()},
      tf.TensorSpec([2]),
  )
  server = tables.ReplayServer(signature)

  def fill():
    for x in steps:
      server.add('offline', x, _EPISODE_STEPS)

  return fill


def _peak(make):
  """Returns the MiB by which a process grows that calls what `make` makes."""
  context = multiprocessing.get_context('spawn')
  results = context.SimpleQueue()
  process = context.Process(target=_measure_peak, args=(make, results))
  process.start()
  process.join()
  return results.get()


def _print_searches():
  print('| encoder | once, ms | per action, ms | ratio | peaks, MiB |')
  print('|---|---|---|---|---|')
  sizes = _BATCH_SIZE.value, _NUM_ACTIONS.value
  for encoder in _ENCODERS:
    searches = {
        reading: make_search(encoder, reading, *sizes) for reading in _READINGS
    }
    # Also traces both.
    np.testing.assert_allclose(
        *[search() for search in searches.values()], rtol=1e-2, atol=1e-5
    )
    once, each = median_seconds(searches).values()
    peaks = ' and '.join(
        f'{_peak(functools.partial(make_search, encoder, reading, *sizes)):.0f}'
        for reading in _READINGS
    )
    print(
        f'| `{encoder}` | {1e3 * once:.1f} | {1e3 * each:.1f} | '
        f'{each / once:.1f} | {peaks} |'
    )


def _print_bytes():
  print('| pictures | stored per transition | read per row |')
  print('|---|---|---|')
  for title, shapes, num_frames in _STORED:
    stored, read = stored_bytes(shapes, num_frames)
    print(f'| {title} | {stored:,.0f} | {read:,.0f} |')


def _print_rows():
  shapes = {'picture': (48, 48, 3)}
  steps = [make_steps(i, shapes) for i in range(_NUM_EPISODES)]
  signature = stored_step.signature(
      {k: tf.TensorSpec(v, tf.uint8) for k, v in shapes.items()},
      tf.TensorSpec([2]),
  )
  scaling = dict(reward_scale=1.0, reward_bias=0.0)
  sources = {
      'memory': memory_experience.MemoryExperience(seed=0, **scaling),
      'file': memory_experience.MemoryExperience(seed=0, **scaling),
      'replay service': reverb_experience.ReverbExperience(
          signature, seed=0, **scaling
      ),
  }
  with tempfile.TemporaryDirectory() as folder:
    store = picture_store.PictureStore(
        _NUM_EPISODES * (_EPISODE_STEPS + 1), folder, memory_bytes=0
    )
    for x in steps:
      sources['memory'].add('offline', x, _EPISODE_STEPS)
      sources['replay service'].add('offline', x, _EPISODE_STEPS)
      kept = store.keep(_episode(x))
      x = x._replace(observation=kept.observation)
      sources['file'].add('offline', x, _EPISODE_STEPS)
    request = experience.ExperienceRequest(cloning_batch_size=_ROWS)

    def read(source):
      iterator = source.iterate(0, _BATCHES, request)
      for _ in range(_BATCHES):
        next(iterator)

    functions = {k: functools.partial(read, v) for k, v in sources.items()}
    for function in functions.values():
      function()
    print('| rows from | per second |')
    print('|---|---|')
    for name, seconds in median_seconds(functions).items():
      print(f'| {name} | {_ROWS * _BATCHES / seconds:,.0f} |')
    sources['replay service'].close()


def _drawn_episode():
  """Returns an episode of the drawn maze with random actions."""
  environment = drawn_maze.DrawnMaze().make_environment(0, evaluation=False)
  random = np.random.default_rng(0)
  observations = [environment.reset().observation]
  for _ in range(_EPISODE_STEPS):
    action = random.uniform(-1.0, 1.0, [2]).astype(np.float32)
    observations.append(environment.step(action).observation)
  steps = make_steps(0, {})
  return _episode(
      steps._replace(
          observation=tf.nest.map_structure(
              lambda *x: np.stack(x), *observations
          )
      )
  )


def _print_log():
  noise = _episode(make_steps(0, {'picture': (48, 48, 3)}))
  print('| pictures | log | write, ms | read, ms | KiB |')
  print('|---|---|---|---|---|')
  for title, episode in (('drawn maze', _drawn_episode()), ('noise', noise)):
    with tempfile.TemporaryDirectory() as folder:
      plain = os.path.join(folder, 'plain.npz')
      packed = os.path.join(folder, 'compressed.npz')

      def compress(arrays, path):
        with synced_file.write(path) as file:
          np.savez_compressed(file, **arrays)

      episode_log.write_episode(plain, episode)
      with np.load(plain) as file:
        arrays = dict(file)
      writers = {
          plain: functools.partial(
              episode_log.write_episode, plain, episode
          ),
          packed: functools.partial(compress, arrays, packed),
      }
      writing = median_seconds(writers)
      reading = median_seconds({
          path: functools.partial(episode_log.read_episode, path)
          for path in writers
      })
      for path in writers:
        name = os.path.basename(path).removesuffix('.npz')
        print(
            f'| {title} | {name} | {1e3 * writing[path]:.1f} | '
            f'{1e3 * reading[path]:.1f} | {os.path.getsize(path) / 1024:,.0f} |'
        )


def _print_service():
  mebibytes = _NUM_EPISODES * (_EPISODE_STEPS + 1) * 100 * 100 * 3 / 2**20
  print(f'| pictures of {mebibytes:.0f} MiB | growth, MiB |')
  print('|---|---|')
  for title, color in (('one colour', 7), ('noise', None)):
    growth = _peak(functools.partial(_make_filling, color))
    print(f'| {title} | {growth:.0f} |')


def _episode(steps):
  return types.Episode(
      observation=steps.observation,
      action=steps.action[:-1],
      reward=steps.reward[:-1],
      discount=steps.discount[:-1],
      success=steps.policy_info['success'][:-1],
      episode_id=int(steps.policy_info['episode_id'][0]),
      has_last_transition=True,
  )


def main(argv):
  """Prints the tables."""
  del argv
  _print_searches()
  print()
  _print_bytes()
  print()
  _print_rows()
  print()
  _print_log()
  print()
  _print_service()


if __name__ == '__main__':
  app.run(main)
