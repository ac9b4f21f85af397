"""Trains PA-RL from Python, without gin: cloning, offline RL, fine-tuning."""

import sys

from tf_agents.train import learner

import parl_tf
from parl_tf.datasets import reading
from parl_tf.domains import pointmaze
from parl_tf.replay import experience
from parl_tf.replay import memory_experience
from parl_tf.training import episode_actor
from parl_tf.training import evaluation
from parl_tf.training import sources
from parl_tf.training import table_writers

# parl-data generate pointmaze --output maze.hdf5 --num_steps 30000
data = 'maze.hdf5'
domain = pointmaze.PointMaze(size='Large')
episodes = list(reading.read_episodes(data, **domain.dataset_options()))
agent = parl_tf.make_agent(
    domain, critic='cal_ql', policy='diffusion', episodes=episodes
)

# The training loop.
rows = sources.LocalSource(
    memory_experience.MemoryExperience, domain, agent, seed=0
).experience
writers = table_writers.make(domain, agent, rows)
for episode in episodes:
  writers['offline'].write('offline', episode)
steps = agent.train_step_counter
trainer = learner.Learner(
    'runs/from_python', steps, agent, checkpoint_interval=-1,
    run_optimizer_variable_init=False, direct_sampling=True,
)


def train(num_steps, **parts):
  """Takes training steps on rows of the tables."""
  request = experience.ExperienceRequest(**parts)
  trainer.run(num_steps, rows.iterate(int(steps), num_steps, request))


train(2000, cloning_batch_size=256)
agent.reset_following_policies()  # For a rate below 1.
train(2000, critic_slices=agent.critic_utd, critic_batch_size=128)
agent.begin_online()
agent.reset_optimizers()
agent.reset_following_policies()
actor = episode_actor.EpisodeActor(domain, agent, seed=0)
for number in range(20):
  episode = actor.act(number)
  writers['online'].write('online', episode)
  train(
      episode.num_steps, critic_slices=agent.critic_utd, critic_batch_size=128,
      critic_offline_fraction=0.5, policy_slices=1, policy_batch_size=128,
  )

evaluator = evaluation.Evaluator(domain, num_episodes=32, seed=0)
for name in ('greedy_policy', 'base_policy'):
  result = evaluator.run_policy(getattr(agent, name))
  sys.stdout.write(f'{name}: success {result.success_rate:.2f}\n')
