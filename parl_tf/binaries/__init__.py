"""Programs; `run` of a module is the entry point of its console script.

Importing this package before TensorFlow is what keeps TensorFlow's import
quiet.
"""

from parl_tf.binaries import third_party_messages

third_party_messages.silence_imports()
