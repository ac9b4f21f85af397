"""Policy-Agnostic RL in TensorFlow and TF-Agents."""

__version__ = '0.1.0'
