"""Settings of a test process, made before TensorFlow is imported."""

import os
import tempfile

from absl import flags

# Equal results on machines with and without a GPU.
os.environ['CUDA_VISIBLE_DEVICES'] = ''
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Test-sized operations gain nothing from threads.
os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')
os.environ.setdefault('TF_NUM_INTEROP_THREADS', '1')

# absl's `create_tempdir` and TensorFlow's `get_temp_dir` make their folders
# here: processes that test at the same time must not share it.
_TEMPORARY = tempfile.TemporaryDirectory(prefix='parl_tf_test_')
os.environ['TEST_TMPDIR'] = _TEMPORARY.name

# pytest does not run absl's main, which would parse them.
flags.FLAGS.mark_as_parsed()
