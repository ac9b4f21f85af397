"""Configures a test process before it imports TensorFlow."""

import gc
import os
import pathlib
import sys
import tempfile

from absl import flags
import gin
import pytest

# Also imported before TensorFlow, because it selects the version of Keras.
import parl_tf  # noqa: F401
from tests import mujoco_models
from tests import reverb_tests

# Files that take more than ten seconds of CPU time, longest first. `make test`
# distributes whole files to its processes, and a long file that starts last
# leaves the other cores idle.
_LONG_FILES = (
    'binaries/distributed_test.py',
    'binaries/train_test.py',
    'distributed/launcher_test.py',
    'binaries/resume_test.py',
    'agents/images_test.py',
    'benchmarks/reproduce_test.py',
    'agents/combinations_test.py',
    'agents/parl_agent_test.py',
    'agents/mirrored_test.py',
    'examples/add_a_policy_test.py',
    'examples/robot_test.py',
    'gin_files_test.py',
    'search/compiled_search_test.py',
    'training/phases_test.py',
    'training/experiment_test.py',
    'training/export_test.py',
    'agents/parl_policy_test.py',
    'training/on_policy_test.py',
    'distributed/server_link_test.py',
    'binaries/export_test.py',
    'docs_test.py',
    'domains/remote_test.py',
    'domains/libero_test.py',
    'domains/calvin_test.py',
    'distributed/supervisor_test.py',
    'binaries/data_test.py',
    'policies/transformer_test.py',
    'agents/learner_test.py',
)

# Equal results on machines with and without a GPU.
os.environ['CUDA_VISIBLE_DEVICES'] = ''
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Test-sized operations gain nothing from threads.
os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')
os.environ.setdefault('TF_NUM_INTEROP_THREADS', '1')
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
# Tests compile many functions and run each only a few times, so optimizing them
# takes longer than it saves.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')

# Ray starts gRPC in a test process. Its fork handlers print to the standard
# error of programs that later tests start, and may abort forked processes.
os.environ.setdefault('GRPC_ENABLE_FORK_SUPPORT', '0')

# absl's `create_tempdir` and TensorFlow's `get_temp_dir` create their folders
# here. Concurrent test processes must not share it.
_TEMPORARY = tempfile.TemporaryDirectory(prefix='parl_tf_test_')
os.environ['TEST_TMPDIR'] = _TEMPORARY.name
# The worker processes of one `make test` inherit this from their parent.
os.environ.setdefault('PARL_TF_SHARED_TMPDIR', _TEMPORARY.name)

# pytest does not run absl's main, which would parse the flags.
flags.FLAGS.mark_as_parsed()


collect_ignore = (
    [] if reverb_tests.is_installed() else list(map(str, reverb_tests.files()))
)


def pytest_collection_modifyitems(config, items):
  """Moves the tests of long files to the front; drops those without Reverb.

  Raises:
    UsageError: If a long file does not exist.
  """
  root = pathlib.Path(__file__).parent
  ranks = {}
  for rank, name in enumerate(_LONG_FILES):
    if not (root / name).is_file():
      raise pytest.UsageError(f'{__file__}: `_LONG_FILES` has no file {name}.')
    ranks[root / name] = rank
  items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
  if not reverb_tests.is_installed():
    dropped = [x for x in items if x.get_closest_marker(reverb_tests.MARK)]
    items[:] = [x for x in items if x not in dropped]
    config.hook.pytest_deselected(items=dropped)


@pytest.fixture(autouse=True, scope='module')
def _own_gin_configuration():
  """Clears gin after each file, because the next file may construct parts."""
  yield
  gin.clear_config()


def pytest_collection_finish():
  """Saves a fifth of the time of the tests.

  Grappler, which optimizes graphs, takes longer than it saves in functions that
  run a few times. Programs that tests start have it, so what depends on it must
  be tested by a program. MuJoCo's models are compiled once. Garbage collection
  skips the imported modules.
  """
  tensorflow = sys.modules.get('tensorflow')
  if tensorflow is not None:
    tensorflow.config.optimizer.set_experimental_options(
        {'disable_meta_optimizer': True}
    )
  mujoco_models.share()
  gc.collect()
  gc.freeze()
  # Traced functions, which the process keeps, are many objects to look at.
  gc.set_threshold(50_000, 20, 20)


def pytest_terminal_summary(terminalreporter):
  """Prints the number of tests that were not collected."""
  if not reverb_tests.is_installed():
    terminalreporter.write_line(
        f'{reverb_tests.num_tests()} test methods need Reverb, which is not '
        'installed: they were not collected.'
    )
