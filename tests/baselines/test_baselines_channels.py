"""The floors on images of several channels: what each does with them, from its answers on one channel."""

import pytest
import torch
from toys import images

from baselines.blur_residual import BlurResidual
from baselines.brightness import Brightness


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_brightness_is_the_mean_and_the_blur_residual_the_sum_over_channels(channels: int) -> None:
    x = images(2, channels=channels)
    for floor, share in ((Brightness(), 1 / channels), (BlurResidual(), 1.0)):
        apart = sum(floor.localize(x[:, channel : channel + 1]).anomaly_map for channel in range(channels)) * share
        torch.testing.assert_close(floor.localize(x).anomaly_map, apart, atol=1e-5, rtol=0)
