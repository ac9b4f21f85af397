"""Tests of stateless random numbers."""

from absl.testing import parameterized
import numpy as np
from scipy import stats
import tensorflow as tf
from tf_agents.utils import common

from parl_tf import randomness
from tests import programs

_SEED = tf.constant([3, 4], tf.int32)

_DRAWS = {
    'normal': lambda seed: randomness.normal(seed, [6, 2]),
    'uniform': lambda seed: randomness.uniform(seed, [6, 2], -1.0, 1.0),
    'integers': lambda seed: randomness.integers(seed, [6], 1000),
    'categorical': lambda seed: randomness.categorical(seed, tf.zeros([6, 99])),
    'fold_in': lambda seed: randomness.fold_in(seed, 5, 'noise'),
}
# A program, because TensorFlow's devices can be configured only once per
# process.
_TWO_REPLICAS = """
import tensorflow as tf
from parl_tf import randomness
device = tf.config.list_physical_devices('CPU')[0]
tf.config.set_logical_device_configuration(
    device, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(['cpu:0', 'cpu:1'])
seed = tf.constant([3, 4], tf.int32)
draws = {
    'normal': lambda rows: randomness.normal(seed, [rows, 2]),
    'uniform': lambda rows: randomness.uniform(seed, tf.stack([rows, 2])),
    'integers': lambda rows: randomness.integers(seed, [rows], 1000),
    'categorical': lambda rows: randomness.categorical(
        seed, tf.zeros([rows, 99])
    ),
}
for name, draw in draws.items():
  run = tf.function(lambda: strategy.run(draw, [3]), autograph=False)
  shares = strategy.experimental_local_results(run())
  joined = tf.concat(shares, axis=0)
  tf.debugging.assert_equal(joined, draw(6), message=name)
members = tf.function(
    lambda: strategy.run(randomness.subset, [seed, 3, 50]), autograph=False
)
for share in strategy.experimental_local_results(members()):
  tf.debugging.assert_equal(share, randomness.subset(seed, 3, 50))
assert strategy.num_replicas_in_sync == 2
print('All draws are equal.')
"""


class RandomnessTest(parameterized.TestCase):

  @parameterized.parameters(*_DRAWS)
  def test_a_seed_gives_the_same_draw_eagerly_in_a_graph_and_under_xla(
      self, name
  ):
    draw = _DRAWS[name]
    expected = draw(_SEED).numpy()
    np.testing.assert_array_equal(draw(_SEED), expected)
    np.testing.assert_array_equal(common.function(draw)(_SEED), expected)
    compiled = common.function(draw, jit_compile=True)(_SEED)
    if expected.dtype == np.int32:
      np.testing.assert_array_equal(compiled, expected)
    else:  # XLA has its own inverse error function.
      np.testing.assert_allclose(compiled, expected, rtol=1e-4, atol=1e-5)

  @parameterized.parameters(False, True)
  def test_draws_equal_those_of_tensorflow(self, jit_compile):
    shape, seeds = [50, 2], tf.random.stateless_uniform(
        [50, 2], [1, 2], None, None, tf.int32
    )

    @tf.function(autograph=False, jit_compile=jit_compile)
    def draw(seed):
      return [
          randomness.integers(seed, shape, 1000),
          randomness.fold_in(seed, 3),
      ]

    for seed in seeds:
      integers = tf.random.stateless_uniform(
          shape, seed, 0, 1000, tf.int32, alg='philox'
      )
      folded = tf.random.experimental.stateless_fold_in(seed, 3, alg='philox')
      ours = draw(seed)
      np.testing.assert_array_equal(ours[0], integers)
      np.testing.assert_array_equal(ours[1], folded)

  @parameterized.parameters(*_DRAWS)
  def test_seeds_give_different_draws(self, name):
    draw = _DRAWS[name]
    first = draw(_SEED).numpy()
    for seed in ([4, 3], [3, 5], [0, 4]):
      self.assertFalse(np.array_equal(draw(tf.constant(seed)), first))

  def test_every_purpose_has_its_own_seed(self):
    seeds = [
        randomness.fold_in(_SEED, *data)
        for data in [
            (), (0,), (1,), (-1,), ('a',), ('b',), (0, 1), (1, 0), ('a', 0),
            (0, 'a'), (tf.constant(2),), (tf.constant(10**6, tf.int64),),
        ]
    ]
    self.assertLen({tuple(seed.numpy()) for seed in seeds}, len(seeds))

  def test_a_tensor_folds_in_like_the_equal_integer(self):
    np.testing.assert_array_equal(
        randomness.fold_in(_SEED, tf.constant(7, tf.int64)),
        randomness.fold_in(_SEED, 7),
    )

  def test_replicas_draw_the_rows_of_the_global_batch(self):
    folder = self.create_tempdir()
    folder.create_file('two_replicas_program.py', _TWO_REPLICAS)
    printed = programs.run('two_replicas_program', folder=folder.full_path)
    self.assertIn('All draws are equal.', printed)

  @parameterized.parameters(False, True)
  def test_a_part_draws_its_rows_of_the_whole_batch(self, jit_compile):
    draws = {
        'normal': lambda rows: randomness.normal(_SEED, [rows, 2]),
        'integers': lambda rows: randomness.integers(_SEED, [rows], 1000),
        'three for each row': lambda rows: randomness.normal(
            _SEED, [3 * rows, 2]
        ),
        'categorical': lambda rows: randomness.categorical(
            _SEED, tf.zeros([rows, 99])
        ),
    }

    @tf.function(autograph=False, jit_compile=jit_compile)
    def part(start, num_rows):
      with randomness.part_of_batch(start, num_rows, 6):
        return {name: draw(num_rows) for name, draw in draws.items()}

    first, last = part(tf.constant(0), 4), part(tf.constant(4), 2)
    for name, draw in draws.items():
      joined = np.concatenate([first[name], last[name]])
      np.testing.assert_allclose(joined, draw(6), rtol=1e-4, atol=1e-5)

  def test_normal_has_mean_0_and_variance_1(self):
    # With 20,000 draws, the standard errors are 0.007 (mean) and 0.01
    # (variance).
    draws = randomness.normal(_SEED, [10_000, 2]).numpy()
    self.assertAlmostEqual(np.mean(draws), 0.0, delta=0.04)
    self.assertAlmostEqual(np.var(draws), 1.0, delta=0.05)

  def test_normal_has_the_tails_of_the_normal_distribution(self):
    draws = randomness.normal(_SEED, [100_000]).numpy()
    statistic, _ = stats.kstest(draws, 'norm')
    # The probability of a statistic above 1.63 / sqrt(n) is 0.01.
    self.assertLess(statistic, 1.63 / np.sqrt(100_000))
    # 2 * (1 - P(3.5)) = 0.000465: 47 +- 7 draws.
    self.assertBetween(np.sum(np.abs(draws) > 3.5), 25, 70)

  def test_uniform_fills_its_open_interval(self):
    for low in (-1.0, 0.0):
      draws = randomness.uniform(_SEED, [1_000_000], low, 1.0).numpy()
      self.assertGreater(np.min(draws), low)
      self.assertLess(np.max(draws), 1.0)
    draws = randomness.uniform(_SEED, [10_000], -1.0, 3.0).numpy()
    self.assertBetween(np.min(draws), -1.0, -0.99)
    self.assertBetween(np.max(draws), 2.99, 3.0)
    # Standard deviation of the mean: 4 / sqrt(12) / 100 = 0.012.
    self.assertAlmostEqual(np.mean(draws), 1.0, delta=0.05)

  def test_integers_are_uniform(self):
    counts = np.bincount(randomness.integers(_SEED, [10_000], 5).numpy())
    self.assertLen(counts, 5)
    # Standard deviation of a count: sqrt(10,000 * 0.2 * 0.8) = 40.
    np.testing.assert_allclose(counts, np.full([5], 2000), atol=200)

  def test_categorical_frequencies_are_the_softmax(self):
    shares = np.array([0.1, 0.0, 0.6, 0.3])
    logits = np.log(np.maximum(shares, 1e-30)) + 7.0
    index = randomness.categorical(
        _SEED, tf.tile(tf.constant([logits], tf.float32), [10_000, 1])
    )
    self.assertEqual(index.dtype, tf.int32)
    counts = np.bincount(index.numpy(), minlength=4)
    # Standard deviation of a count: at most 50.
    np.testing.assert_allclose(counts, 10_000 * shares, atol=250)
    self.assertEqual(counts[1], 0)

  def test_categorical_rows_draw_independently(self):
    logits = tf.constant([[0.0, 50.0, 0.0], [50.0, 0.0, 0.0]])
    np.testing.assert_array_equal(
        randomness.categorical(_SEED, logits), [1, 0]
    )
    index = randomness.categorical(_SEED, tf.zeros([50, 10])).numpy()
    self.assertGreater(len(set(index)), 5)

  def test_distinct_members_differ(self):
    for word in range(50):
      rows = randomness.distinct_members(tf.constant([word, 3]), 3, 4).numpy()
      self.assertEqual(np.sum(rows, axis=1).tolist(), [1, 1, 1])
      self.assertEqual(np.max(np.sum(rows, axis=0)), 1)
    draws = [
        randomness.distinct_members([word, 5], 2, 3).numpy().sum(axis=0)
        for word in range(300)
    ]
    pairs = [tuple(np.flatnonzero(x)) for x in draws]
    # 100 +- 8 for each pair.
    self.assertLen(set(pairs), 3)
    for pair in set(pairs):
      self.assertBetween(pairs.count(pair), 60, 140)
    with self.assertRaisesRegex(ValueError, 'At most 2 different.*got 3'):
      randomness.distinct_members(_SEED, 3, 2)

  def test_subset_rows_are_one_hot_and_repeat(self):
    # 300 draws with replacement from 4 members: 75 +- 7.5 rows for each.
    rows = randomness.subset(_SEED, 300, 4).numpy()
    self.assertEqual(rows.shape, (300, 4))
    np.testing.assert_array_equal(np.sort(rows, axis=1)[:, :3], 0)
    np.testing.assert_array_equal(np.sum(rows, axis=1), 1)
    np.testing.assert_allclose(np.sum(rows, axis=0), 75, atol=38)
