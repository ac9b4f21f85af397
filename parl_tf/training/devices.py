"""The devices of a learner: one, or several that share each batch."""

import os

from absl import logging
import tensorflow as tf
from tf_agents.train import learner
from tf_agents.utils import common

from parl_tf import types

STRATEGIES = ('default', 'mirrored')

# A file of the NVIDIA driver.
_DRIVER = '/proc/driver/nvidia/version'


def make_strategy(name: str) -> tf.distribute.Strategy:
  """Returns a distribution strategy.

  Args:
    name: 'default' uses one device. 'mirrored' shares the rows of a step among
      all GPUs that TensorFlow sees, or among its logical CPU devices if it
      sees no GPU.

  Raises:
    ValueError: If the name is unknown, or there are fewer than two devices to
      share rows among.
  """
  if name not in STRATEGIES:
    raise ValueError(f'`strategy` must be one of {STRATEGIES}, got {name!r}.')
  warn_of_unused_gpu()
  if name == 'default':
    return tf.distribute.get_strategy()
  gpus = tf.config.list_logical_devices('GPU')
  devices = gpus or tf.config.list_logical_devices('CPU')
  names = [device.name for device in devices]
  if len(names) < 2:
    raise ValueError(
        "`strategy` 'mirrored' must have at least two devices, got "
        f'{names}.'
    )
  return tf.distribute.MirroredStrategy(names)


def warn_of_unused_gpu(driver: str = _DRIVER) -> None:
  """Warns if the machine has a GPU that TensorFlow does not see.

  TensorFlow reports the reason only in C++ log messages, which the programs
  hide.

  Args:
    driver: A file that exists if a GPU driver is loaded.
  """
  is_hidden = os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1')
  if is_hidden or not os.path.exists(driver):
    return
  if not tf.config.list_physical_devices('GPU'):
    logging.warning(
        'TensorFlow does not see the GPU of this machine and uses the CPU.'
        ' Set TF_CPP_MIN_LOG_LEVEL=0 to see the reason. Most often CUDA is'
        ' missing: pip install "tensorflow[and-cuda]==%s".',
        tf.__version__,
    )


def make_learner(
    root_dir: str, agent, strategy: tf.distribute.Strategy
) -> learner.Learner:
  """Returns a learner that trains on whole batches and writes no checkpoints.

  Args:
    root_dir: Directory that the learner may write to.
    agent: `PARLAgent`, or an agent that trains on the same experience.
    strategy: Strategy in whose scope the agent was made.
  """
  several = strategy.num_replicas_in_sync > 1
  learner_ctor = ReplicaLearner if several else learner.Learner
  return learner_ctor(
      root_dir,
      agent.train_step_counter,
      agent,
      checkpoint_interval=-1,
      summary_interval=0,
      run_optimizer_variable_init=False,
      direct_sampling=True,
      strategy=strategy,
  )


class ReplicaLearner(learner.Learner):
  """Gives each replica its share of the rows of a step.

  The iterator yields whole batches. Each replica gets its share of every slice,
  and `randomness` draws for each row the noise that the row gets on a single
  device.
  """

  def single_train_step(self, iterator):
    """Trains on the next batch; returns each replica's share of the loss."""
    return self._train_on_shares(next(iterator))

  # Compiled separately, because the learner traces its step twice.
  @common.function
  def _train_on_shares(self, experience):
    num_slices = types.Experience(
        critic=self._agent.critic_utd,
        policy=self._agent.policy_utd,
        cloning=1,
    )

    def share(context):
      return types.Experience(*(
          rows and replica_share(name, rows, slices, context)
          for name, rows, slices in zip(
              types.Experience._fields, experience, num_slices
          )
      ))

    shares = self.strategy.experimental_distribute_values_from_function(share)
    return self.strategy.run(self._agent.train, args=(shares,))


def replica_share(
    name: str,
    rows: types.Nest,
    num_slices: int,
    context: tf.distribute.experimental.ValueContext,
) -> types.Nest:
  """Returns a replica's rows of each slice, slice by slice.

  Args:
    name: Name of the part of the experience, for error messages.
    rows: Nest of `[num_slices * B, ...]` with static B.
    num_slices: Number of consecutive slices.
    context: Number of the replica and of all replicas.

  Returns:
    Nest of `[num_slices * B / replicas, ...]`. The first replica gets the first
    rows of each slice.

  Raises:
    ValueError: If a slice cannot be divided evenly.
  """
  count = context.num_replicas_in_sync

  def share(x):
    size, remainder = divmod(x.shape[0], num_slices * count)
    if remainder:
      raise ValueError(
          f'The `{name}` rows of a step must be a multiple of {num_slices} '
          f'updates times {count} devices, got {x.shape[0]}.'
      )
    shape = [num_slices, count, size, *x.shape[1:]]
    x = tf.reshape(x, shape)[:, context.replica_id_in_sync_group]
    return tf.reshape(x, [num_slices * size, *shape[3:]])

  return tf.nest.map_structure(share, rows)
