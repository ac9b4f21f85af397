"""Command-line programs; `run` in each module is the console entry point.

Importing this package hides the messages that TensorFlow prints on import.
"""

from parl_tf.binaries import third_party_messages

third_party_messages.silence_imports()
