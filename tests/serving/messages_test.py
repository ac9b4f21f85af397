"""Tests the encoding of messages."""

from absl.testing import absltest
from absl.testing import parameterized
import msgpack
import numpy as np

from parl_tf.serving import messages


class MessagesTest(parameterized.TestCase):

  @parameterized.parameters(
      (np.arange(6, dtype=np.float32).reshape(2, 3),),
      (np.array(1.5),),
      (np.zeros([0, 3], np.int64),),
      (np.array([True, False]),),
      (np.array(['open', 'the drawer']),),
      (np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),),
  )
  def test_arrays_survive(self, array):
    seen = messages.unpack(messages.pack({'x': array}))['x']

    self.assertEqual(seen.dtype, array.dtype)
    np.testing.assert_array_equal(seen, array)

  def test_unpacked_arrays_are_writable(self):
    self.assertTrue(messages.unpack(messages.pack(np.zeros(2))).flags.writeable)

  def test_other_values_survive(self):
    message = {'a': [1, 2.5, None, 'text', b'bytes', True], 'b': {'c': -1}}

    self.assertEqual(messages.unpack(messages.pack(message)), message)
    scalar = messages.unpack(messages.pack(np.float32(0.5)))
    self.assertEqual((scalar, scalar.dtype), (0.5, np.float32))

  def test_arrays_are_encoded_as_by_openpi(self):
    raw = msgpack.unpackb(messages.pack(np.array([[1, 2]], np.int16)))

    self.assertEqual(
        raw,
        {
            b'__ndarray__': True,
            b'data': b'\x01\x00\x02\x00',
            b'dtype': '<i2',
            b'shape': [1, 2],
        },
    )

  @parameterized.parameters(
      (np.array([None]),), (np.zeros(2, 'f4,i4'),), (np.complex64(1),), (set(),)
  )
  def test_objects_are_not_packed(self, value):
    with self.assertRaisesRegex(messages.MessageError, 'not allowed'):
      messages.pack({'x': value})

  @parameterized.parameters(
      ({b'dtype': '|O'}, 'not allowed'),
      ({b'dtype': '<U0', b'data': b''}, 'not allowed'),  # Any shape would fit.
      ({b'dtype': 'f4,O'}, 'not allowed'),
      ({b'dtype': 3}, 'dtype must be a string'),
      ({b'dtype': 'nothing'}, 'malformed'),
      ({b'shape': [3]}, r'must have 12 bytes, got 8'),
      ({b'shape': [2**40, 2**40]}, 'bytes, got 8'),
      ({b'shape': [-2]}, 'short list of sizes'),
      ({b'shape': [1] * 40}, 'short list of sizes'),
      ({b'data': 'text'}, 'must be bytes'),
  )
  def test_wrong_arrays_are_refused(self, change, fault):
    array = {
        b'__ndarray__': True,
        b'data': bytes(8),
        b'dtype': '<f4',
        b'shape': [2],
        **change,
    }

    with self.assertRaisesRegex(messages.MessageError, fault):
      messages.unpack(msgpack.packb({'x': array}))

  @parameterized.parameters(
      (b'',),
      (b'\xc1',),
      (b'\x93\x01',),
      (b'\x01\x02',),
      (b'\x91' * 100_000,),
      (msgpack.packb(msgpack.ExtType(4, b'abc')),),
      (msgpack.packb({b'__npgeneric__': True, b'dtype': '<f4'}),),
  )
  def test_malformed_messages_are_refused(self, data):
    with self.assertRaisesRegex(messages.MessageError, 'malformed'):
      messages.unpack(data)


if __name__ == '__main__':
  absltest.main()
