"""Command-line programs; `run` in each module is the console entry point.

Importing this package hides the messages that TensorFlow prints on import, and
selects the number of threads of NumPy and TensorFlow.
"""

from parl_tf.binaries import cpu_threads
from parl_tf.binaries import third_party_messages

cpu_threads.set_default()
third_party_messages.silence_imports()
