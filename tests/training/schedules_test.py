"""Tests of learning-rate schedules."""

from absl.testing import absltest
from absl.testing import parameterized
import tensorflow as tf

from parl_tf.training import schedules
from tests import tensor_case


def _rates(schedule, steps):
  return [float(schedule(tf.constant(step, tf.int64))) for step in steps]


class WarmUpCosineDecayTest(tensor_case.TensorCase):

  def test_rises_in_equal_steps_and_then_stays(self):
    schedule = schedules.WarmUpCosineDecay(0.8, num_warm_up_steps=4)

    # Update 0 uses a quarter of the rate, update 3 the full rate.
    self.assertAllClose(
        _rates(schedule, [0, 1, 2, 3, 4, 1_000_000]),
        [0.2, 0.4, 0.6, 0.8, 0.8, 0.8],
    )

  def test_is_constant_without_warm_up(self):
    schedule = schedules.WarmUpCosineDecay(0.8, num_warm_up_steps=0)

    self.assertAllClose(_rates(schedule, [0, 1, 1000]), [0.8, 0.8, 0.8])

  def test_decays_by_half_a_cosine_after_the_warm_up(self):
    schedule = schedules.WarmUpCosineDecay(
        0.8, num_warm_up_steps=4, num_decay_steps=15
    )

    # The warm-up ends with update 3, and the rate is 0 twelve updates later.
    # After a third of them the factor is (1 + cos 60 degrees) / 2 = 3 / 4.
    self.assertAllClose(
        _rates(schedule, [0, 3, 7, 9, 11, 15, 100]),
        [0.2, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0],
        atol=1e-7,
    )

  def test_decays_from_the_start_without_warm_up(self):
    schedule = schedules.WarmUpCosineDecay(
        0.8, num_warm_up_steps=0, num_decay_steps=12
    )

    self.assertAllClose(
        _rates(schedule, [0, 4, 6, 12]), [0.8, 0.6, 0.4, 0.0], atol=1e-7
    )

  def test_several_updates_of_a_step_last_as_long_as_one(self):
    schedule = schedules.WarmUpCosineDecay(
        0.8, num_warm_up_steps=1, num_decay_steps=4
    )
    schedule.set_updates_per_step(3)

    # The warm-up ends with update 2; the rate is 0 after 4 x 3 updates.
    self.assertAllClose(
        _rates(schedule, [0, 2, 7, 12]), [0.8 / 3, 0.8, 0.4, 0.0], atol=1e-7
    )

  def test_two_numbers_of_updates_are_refused(self):
    schedule = schedules.WarmUpCosineDecay(0.8)
    schedule.set_updates_per_step(4)
    schedule.set_updates_per_step(4)
    with self.assertRaisesRegex(
        ValueError, 'must not share a schedule, got 4 and 1'
    ):
      schedule.set_updates_per_step(1)

  def test_the_default_warm_up_matches_the_paper(self):
    self.assertAllClose(
        _rates(schedules.WarmUpCosineDecay(3e-4), [0, 999, 1999, 5000]),
        [1.5e-7, 1.5e-4, 3e-4, 3e-4],
    )

  def test_an_optimizer_uses_the_rate_for_its_own_step_count(self):
    variable = tf.Variable(0.0)
    optimizer = tf.keras.optimizers.SGD(
        schedules.WarmUpCosineDecay(0.8, num_warm_up_steps=4)
    )
    for expected in (-0.2, -0.6, -1.2, -2.0, -2.8):
      optimizer.apply_gradients([(tf.constant(1.0), variable)])
      self.assertAllClose(variable, expected)

  def test_a_warm_up_of_one_step_is_none(self):
    one, none = (
        schedules.WarmUpCosineDecay(
            0.8, num_warm_up_steps=num_steps, num_decay_steps=12
        )
        for num_steps in (1, 0)
    )

    self.assertEqual(_rates(one, range(12)), _rates(none, range(12)))

  @parameterized.parameters(
      (dict(learning_rate=0.0), '`learning_rate` must be positive, got 0'),
      (
          dict(learning_rate=float('nan')),
          '`learning_rate` must be positive, got nan',
      ),
      (
          dict(learning_rate=1.0, num_warm_up_steps=-1),
          '`num_warm_up_steps` must not be negative, got -1',
      ),
      (
          dict(learning_rate=1.0, num_warm_up_steps=4, num_decay_steps=4),
          '`num_decay_steps` must exceed `num_warm_up_steps`, got 4 and 4',
      ),
  )
  def test_values_out_of_range_are_named(self, kwargs, message):
    with self.assertRaisesRegex(ValueError, message):
      schedules.WarmUpCosineDecay(**kwargs)


class RateByPhaseTest(tensor_case.TensorCase):

  def test_a_negative_rate_raises(self):
    with self.assertRaisesRegex(ValueError, 'RateByPhase.online.*got -0.1'):
      schedules.RateByPhase(offline=0.1, online=-0.1)

  def test_both_rates_learn_the_number_of_updates_per_step(self):
    schedule = schedules.RateByPhase(
        offline=schedules.WarmUpCosineDecay(
            0.8, num_warm_up_steps=0, num_decay_steps=2
        ),
        online=0.1,
    )
    schedule.set_updates_per_step(5)
    self.assertAllClose(_rates(schedule, [5, 10]), [0.4, 0.0], atol=1e-7)

  def test_an_optimizer_changes_its_rate_with_the_phase(self):
    schedule = schedules.RateByPhase(
        offline=schedules.WarmUpCosineDecay(
            0.8, num_warm_up_steps=0, num_decay_steps=2
        ),
        online=0.1,
    )
    variable = tf.Variable(0.0)
    optimizer = tf.keras.optimizers.SGD(schedule)
    optimizer.build([variable])

    @tf.function
    def update():
      optimizer.apply_gradients([(tf.constant(-1.0), variable)])

    update()
    update()
    # 0.8, and half of it after one of two steps.
    self.assertAllClose(variable, 1.2)
    schedule.begin_online()
    update()
    self.assertAllClose(variable, 1.3)


if __name__ == '__main__':
  absltest.main()
