"""Reads TFRecord files of `tf.train.Example`s."""

import contextlib
from typing import Iterator, Mapping, NamedTuple, Tuple

import numpy as np

from parl_tf.datasets import rows as rows_lib


class Feature(NamedTuple):
  """A feature whose values of all steps form one list.

  Attributes:
    shape: Shape of one step's value.
    dtype: Type of the values.
    is_encoded: Whether a step's value is the contents of an image file.
  """

  shape: Tuple[int, ...]
  dtype: np.dtype
  is_encoded: bool


def read(
    file: str, features: Mapping[str, Feature], source: str
) -> Iterator[Mapping[str, np.ndarray]]:
  """Yields the records of a file, each as arrays `[steps, ...]` by feature.

  Numbers are float32 or int64, and encoded images are bytes.

  Args:
    file: Path of the file.
    features: The features to parse.
    source: File that describes the features, used in error messages.

  Raises:
    rows.DamagedFileError: If the file is corrupt or lacks a feature.
  """
  # Imported here: no other format needs TensorFlow to read its numbers.
  import tensorflow as tf

  @contextlib.contextmanager
  def damage_named(where):
    try:
      yield
    except tf.errors.OpError as error:
      raise rows_lib.DamagedFileError(
          f'{where}: must be complete and match {source}; it is truncated,'
          f' corrupt or different ({error.message}).'
      ) from error

  def parser(feature):
    if feature.is_encoded:
      shape, dtype = (), tf.string
    else:
      shape = feature.shape
      dtype = tf.float32 if feature.dtype.kind == 'f' else tf.int64
    return tf.io.FixedLenSequenceFeature(shape, dtype, allow_missing=True)

  parsers = {key: parser(feature) for key, feature in features.items()}
  with damage_named(file):
    for number, record in enumerate(tf.data.TFRecordDataset(file)):
      with damage_named(f'{file}, record {number}'):
        values = tf.io.parse_single_example(record, parsers)
      yield {key: value.numpy() for key, value in values.items()}
