"""Where the noise predictor is exact for a walk of any step width, up and down again gives the image, whatever the grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medanomaly.diffusion.guidance import classifier_free
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import ddim_walk

SCHEDULE = NoiseSchedule.linear()


@pytest.mark.parametrize("num_steps", [10, 7, 333, 1000])
@pytest.mark.parametrize(
    ("noise_level", "dtype", "error"), [(500, torch.float32, 1e-4), (1000, torch.float64, 1e-9), (999, torch.float64, 1e-9)]
)
def test_up_and_down_with_the_conditional_prediction_alone_is_the_image(
    noise_level: int, num_steps: int, dtype: torch.dtype, error: float
) -> None:
    x = torch.linspace(-1, 1, 64, dtype=dtype).reshape(1, 1, 8, 8)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)

    def exact(x_t: Tensor, t: int) -> Tensor:
        return noise

    def never(x_t: Tensor, t: int) -> Tensor:
        return torch.full_like(x_t, 9.0)

    levels = SCHEDULE.grid(noise_level, min(num_steps, noise_level))
    latent = ddim_walk(exact, x, levels, SCHEDULE)
    # At guidance 1 the null class counts for nothing.
    back = ddim_walk(classifier_free(exact, never, 1.0), latent, levels[::-1], SCHEDULE)
    expected = SCHEDULE.signal(noise_level) * x + SCHEDULE.noise(noise_level) * noise
    torch.testing.assert_close(latent, expected, atol=error, rtol=0)
    torch.testing.assert_close(back, x, atol=error, rtol=0)
