"""The action optimizer under its public name; `parl_tf.search` has it."""

from parl_tf.search import action_optimizer

ActionOptimizer = action_optimizer.ActionOptimizer
