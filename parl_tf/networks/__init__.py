"""Keras networks that critics and policies are made of."""

from parl_tf.networks import picture_networks

random_shift = picture_networks.random_shift
