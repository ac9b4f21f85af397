"""Selects how NumPy and TensorFlow divide their work among the cores."""

import os

# Operations of a training step that can run at the same time: a batch's states
# and next states, each in two parts.
_NUM_PARALLEL = 4


def set_default() -> None:
  """Gives each operation one thread if there are enough operations for all.

  By default, TensorFlow divides each operation among all cores. For networks of
  the usual sizes, the division costs as much as it saves. `Search` therefore
  divides a batch into parts that run in parallel, each on one core.

  NumPy's linear algebra, which draws the orthogonal initial weights, takes one
  thread. Its threads busy-wait for each other, so on busy cores several take up
  to 70 times as long as one.

  Call this before NumPy and TensorFlow are imported. The user's environment
  variables `TF_NUM_INTRAOP_THREADS` and `OPENBLAS_NUM_THREADS` take precedence.
  """
  num_threads = max(1, (os.cpu_count() or 1) // _NUM_PARALLEL)
  os.environ.setdefault('TF_NUM_INTRAOP_THREADS', str(num_threads))
  os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
