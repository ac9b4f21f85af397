"""Tests of recognizing input errors and of their one-line messages."""

import abc
import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf import proportion
from parl_tf.binaries import configs
from parl_tf.binaries import input_errors
from parl_tf.serving import weights
from parl_tf.training import experiment


@gin.configurable(module='input_errors_test')
def make_interval(rate, num_trials=gin.REQUIRED):
  return proportion.wilson_interval(rate, num_trials)


@gin.configurable(module='input_errors_test', denylist=['spec'])
class Network:

  def __init__(self, spec, *, depth):
    del spec, depth


@gin.configurable(module='input_errors_test')
class Unfinished(abc.ABC):

  @abc.abstractmethod
  def advantage(self):
    """Must be defined."""


@gin.configurable(module='input_errors_test')
def make(ctor):
  return ctor('spec')


class _Opposite:

  def __neg__(self):
    raise ValueError('No code of the project raises this.')


def _caught(function, *arguments):
  try:
    function(*arguments)
  except (IndexError, OSError, RuntimeError, TypeError, ValueError) as error:
    return error
  raise AssertionError('Nothing was raised.')


class InputErrorsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)

  def _one_line(self, function, *arguments):
    error = _caught(function, *arguments)
    self.assertTrue(input_errors.is_of_input(error), repr(error))
    return input_errors.one_line(error)

  def test_value_that_the_project_refuses_is_an_input_error(self):
    self.assertEqual(
        self._one_line(proportion.wilson_interval, 0.5, 0),
        '`num_trials` must be positive, got 0.',
    )

  def test_the_stack_of_a_traced_function_is_left_out(self):
    @tf.function
    def traced():
      proportion.wilson_interval(0.5, 0)

    error = _caught(traced)
    self.assertStartsWith(str(error), 'in user code:')
    self.assertEqual(
        input_errors.one_line(error), '`num_trials` must be positive, got 0.'
    )

  def test_location_in_the_configuration_is_named(self):
    configs.parse([], ['make_interval.num_trials = 0'])

    self.assertEqual(
        self._one_line(make_interval, 0.5),
        '`num_trials` must be positive, got 0. (gin: make_interval)',
    )

  def test_a_run_is_the_place_of_its_own_arguments_only(self):
    configs.parse([], ['run_experiment.held_out_fraction = 2.0'])

    self.assertEndsWith(
        self._one_line(experiment.run_experiment, 'run', 0),
        'in (0, 1), got 2.0. (gin: run_experiment)',
    )
    check = weights.Weights('initial').check
    with mock.patch.object(experiment, '_check', lambda *_: check('other')):
      self.assertEndsWith(
          self._one_line(experiment.run_experiment, 'run', 0),
          'Saved versions: [].',
      )

  def test_binding_is_named(self):
    self.assertRegex(
        self._one_line(configs.parse, [], ['make_interval.trials = 0']),
        "^Configurable 'make_interval' .* Did you mean 'num_trials'."
        r' \(--gin_bindings: make_interval.trials = 0\)$',
    )

  def test_several_datasets_are_to_be_joined(self):
    self.assertRegex(
        self._one_line(
            configs.parse,
            [],
            ['run_experiment.dataset_path = ["a.hdf5", "b.hdf5"]'],
        ),
        "^`run_experiment.dataset_path` must be .*, got .'a.hdf5', 'b.hdf5'.."
        ' It must be one path: .* `parl-data convert a.hdf5 b.hdf5 --output',
    )

  def test_line_of_a_file_is_named(self):
    path = self.create_tempfile(
        'a.gin', content='\nmake_interval.trials = 0'
    ).full_path

    self.assertEndsWith(
        self._one_line(configs.parse, [path]),
        f' ({path}, line 2: make_interval.trials = 0)',
    )

  def test_missing_required_binding_is_an_input_error(self):
    self.assertRegex(
        self._one_line(make_interval, 0.5),
        '^Required bindings for `make_interval` .*num_trials',
    )

  @parameterized.parameters(
      ('Network', "Network lacks 'depth': bind it, or, if the program passes"),
      ('Network()', "Network lacks 'spec': .* without parentheses, `@Network`"),
      ('Unfinished', r'abstract class Unfinished .* advantage \(gin: make\)'),
  )
  def test_classes_that_cannot_be_made_are_input_errors(self, ctor, message):
    configs.parse([], [f'make.ctor = @{ctor}'])

    self.assertRegex(self._one_line(make), message)

  def test_unbound_macro_does_not_print_the_configuration(self):
    self.assertRegex(
        self._one_line(configs.parse, [], ['make_interval.rate = %RATE']),
        "^No bindings specified for 'RATE",
    )

  def test_errors_of_files_name_the_file(self):
    self.assertEqual(
        self._one_line(os.listdir, '/no_such_folder'),
        '/no_such_folder: No such file or directory',
    )

  @parameterized.parameters(
      (np.zeros([2]).reshape, [3]),  # Raised by NumPy.
      (int, 'x'),  # Raised by Python for a call outside this project.
      (_Opposite().__neg__,),
      (proportion.wilson_interval, 'x', 1),  # Raised by our operator.
      ([].__getitem__, 0),
  )
  def test_other_errors_are_bugs(self, function, *arguments):
    self.assertFalse(input_errors.is_of_input(_caught(function, *arguments)))


if __name__ == '__main__':
  absltest.main()
