import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from banet_monai.data import mask_ids

masks = st_numpy.arrays(np.uint8, st_numpy.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=st.integers(0, 1))


@given(masks, st.sampled_from([np.uint8, np.int16, np.int64, np.float32, np.float64]))
@settings(max_examples=50, deadline=None)
def test_0_1_and_0_255_mean_the_same(mask, dtype):
    np.testing.assert_array_equal(mask_ids(mask.astype(dtype)), mask)
    np.testing.assert_array_equal(mask_ids(mask.astype(dtype) * 255), mask)


@given(masks, st.data())
@settings(max_examples=50, deadline=None)
def test_noise_up_to_ten_changes_nothing_where_there_is_foreground(mask, data):
    mask.flat[0] = 1
    noise = data.draw(st_numpy.arrays(np.int16, mask.shape, elements=st.integers(0, 10)))
    noisy = np.where(mask == 1, 255 - noise, noise).astype(np.uint8)
    np.testing.assert_array_equal(mask_ids(noisy), mask)


@given(st_numpy.arrays(np.uint8, (4, 5), elements=st.integers(0, 7)))
@settings(max_examples=50, deadline=None)
def test_ids_of_several_classes_stay(labels):
    np.testing.assert_array_equal(mask_ids(labels.astype(np.float32), num_classes=7), labels)
