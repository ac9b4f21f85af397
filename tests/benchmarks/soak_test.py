"""Tests of how the soak test reads processes, memory and logs."""

import os

from absl.testing import absltest

from benchmarks import soak


class RoleTest(absltest.TestCase):

  def test_a_role_is_identified_by_its_module_and_number(self):
    command = ['python', '-m', 'parl_tf.binaries.collect', '--root_dir=/r']
    self.assertEqual(
        soak.role_of([*command, '--collector=3', ''], '/r'), 'collector_3'
    )
    self.assertEqual(
        soak.role_of(
            ['python', '-m', 'reverb_server.server', '--root_dir=/r'], '/r'
        ),
        'service',
    )

  def test_subdirectories_belong_to_the_run_but_siblings_do_not(self):
    command = ['python', '-m', 'parl_tf.binaries.evaluate']
    self.assertEqual(
        soak.role_of([*command, '--root_dir=/r/evaluator'], '/r'), 'evaluator'
    )
    self.assertEqual(soak.role_of([*command, '--root_dir=/rest'], '/r'), '')
    self.assertEqual(soak.role_of(['cat', '--root_dir=/r'], '/r'), '')


class MemoryTest(absltest.TestCase):

  def test_only_roles_are_read(self):
    self.assertNotIn(
        os.getpid(), [x.process for x in soak.read_memory('/r', 0.0)]
    )

  def test_growth_compares_the_quarters(self):
    readings = [
        soak.Reading(float(i), role, 1, first + 10.0 * i)
        for i in range(9)
        for role, first in (('learner', 100.0), ('service', 50.0))
    ]
    self.assertEqual(
        soak.growth(readings),
        {'learner': (110.0, 170.0), 'service': (60.0, 120.0)},
    )
    with self.assertRaisesRegex(ValueError, 'readings'):
      soak.growth([])


class LogTest(absltest.TestCase):

  def test_messages_of_every_start_are_ignored(self):
    log = self.create_tempfile(
        content='I1121 10:00 fine\n'
        'W1121 10:01 Waiting\n'
        '2026-11-21 10:02:00.1: E external/x.cc:1] Unable to register cuFFT\n'
        '2026-11-21 10:02:00.1: E external/x.cc:1] torn\n'
        'E1121 10:03 failed\n'
        'Traceback (most recent call last):\n'
    ).full_path
    self.assertLen(soak.find_lines(log, soak._WARNING), 4)
    errors = soak.find_lines(log, soak._ERROR)
    self.assertLen(errors, 3)
    self.assertIn('torn', errors[0])

  def test_the_figure_is_written(self):
    path = os.path.join(self.create_tempdir().full_path, 'memory.png')
    soak.draw(path, [soak.Reading(0.0, 'learner', 1, 100.0)])
    self.assertTrue(os.path.exists(path))


if __name__ == '__main__':
  absltest.main()
