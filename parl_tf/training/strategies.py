"""The devices that a learner trains on."""

import tensorflow as tf

NAMES = ('default', 'mirrored')


def make(name: str) -> tf.distribute.Strategy:
  """Returns a distribution strategy.

  Args:
    name: 'default', one device, or 'mirrored', which shares the rows of a step
      among all GPUs that TensorFlow sees, or where there is none among its
      logical CPU devices.

  Raises:
    ValueError: If the name is unknown, or there are fewer than two devices to
      share rows among.
  """
  if name not in NAMES:
    raise ValueError(f'`strategy` must be one of {NAMES}, got {name!r}.')
  if name == 'default':
    return tf.distribute.get_strategy()
  gpus = tf.config.list_logical_devices('GPU')
  devices = gpus or tf.config.list_logical_devices('CPU')
  names = [device.name for device in devices]
  if len(names) < 2:
    raise ValueError(
        "`strategy` 'mirrored' must have at least two devices to share rows "
        f'among, got {names}.'
    )
  return tf.distribute.MirroredStrategy(names)
