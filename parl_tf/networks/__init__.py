"""Keras networks of critics and policies."""

from parl_tf.networks import picture_networks

# Part of the public interface.
random_shift = picture_networks.random_shift
