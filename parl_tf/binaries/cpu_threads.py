"""Selects how TensorFlow divides its work among the processor's cores."""

import os

# Operations of a training step that can run at the same time: a batch's states
# and next states, each in two parts.
_NUM_PARALLEL = 4


def set_default() -> None:
  """Gives each operation one thread if there are enough operations for all.

  By default, TensorFlow divides each operation among all cores. For networks of
  the usual sizes, the division costs as much as it saves. `Search` therefore
  divides a batch into parts that run in parallel, each on one core.

  Call this before TensorFlow is imported. An environment variable
  `TF_NUM_INTRAOP_THREADS` of the user takes precedence.
  """
  num_threads = max(1, (os.cpu_count() or 1) // _NUM_PARALLEL)
  os.environ.setdefault('TF_NUM_INTRAOP_THREADS', str(num_threads))
