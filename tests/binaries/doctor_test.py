"""Tests of `parl-doctor`."""

from importlib import metadata
import json
import os
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.binaries import doctor_checks
from parl_tf.binaries import doctor_versions
from tests import absent_libraries


class DoctorTest(parameterized.TestCase):

  def test_a_machine_without_reverb_and_gl(self):
    with mock.patch.dict(os.environ, MUJOCO_GL='egl'):
      done = absent_libraries.run(
          ['reverb', 'OpenGL'],
          '-m', 'parl_tf.binaries.doctor', '--json', '--root_dir=no/such',
      )
    self.assertEqual(done.returncode, 1, done.stderr)
    found = {x['name']: x for x in json.loads(done.stdout)}
    reverb = ('PROBLEM', "No module named 'reverb'")
    if sys.version_info >= (3, 12):
      reverb = ('NOTE', 'has no version for Python 3.12')
    for name, status, text in (
        ('versions', 'OK', ''),
        ('write speed', 'OK', 'MiB/s'),
        ('tensorflow', 'OK', ''),
        ('mujoco', 'OK', ''),
        ('reverb', *reverb),
        ('gl', 'PROBLEM', 'no images and videos'),
    ):
      self.assertEqual(found[name]['status'], status, str(found[name]))
      self.assertIn(text, found[name]['found'])
      self.assertEqual(bool(found[name]['fix']), status != 'OK')

  @parameterized.parameters(
      ('fpu avx2', '2 cores, AVX2; float32 is fastest'),
      ('avx2 avx512f', '2 cores, AVX2, AVX-512; float32 is fastest'),
      ('avx512f amx_bf16', '2 cores, AVX-512, AMX bfloat16; with large'),
      ('', '2 cores, neither AVX2 nor AVX-512; float32'),
  )
  def test_processor_names_the_precision_that_pays(self, cpu_flags, wanted):
    found = doctor_checks.processor_finding(cpu_flags, 2)
    self.assertStartsWith(found.found, wanted)

  def test_versions_that_differ_are_found(self):
    seen = metadata.version('numpy')
    self.assertEmpty(doctor_versions.differences({'numpy': seen, 'other': '1'}))
    self.assertEqual(
        doctor_versions.differences({'numpy': '0.1'}), {'numpy': (seen, '0.1')}
    )
    _, pins = doctor_versions.read_pins()
    self.assertIn('gymnasium-robotics', pins)

  def test_a_file_in_place_of_the_run_is_a_problem(self):
    path = self.create_tempfile('notes.txt').full_path
    (finding,) = doctor_checks._disk(os.path.join(path, 'run'))
    self.assertEqual(finding.status, doctor_checks.PROBLEM)
    self.assertIn('notes.txt is no directory', finding.found)

  def test_line_has_the_fix(self):
    self.assertEqual(
        doctor_checks.describe(
            doctor_checks.Finding('gl', 'PROBLEM', 'none.', 'a command')
        ),
        'PROBLEM gl                none. Fix: a command',
    )


if __name__ == '__main__':
  absltest.main()
