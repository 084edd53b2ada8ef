import pytest
import torch
from toys import images

from baselines import FLOORS
from baselines.blur_residual import BlurResidual
from baselines.brightness import Brightness
from baselines.random_map import RandomMap
from medanomaly.errors import ConfigError
from medanomaly.metrics.pixel import pixel_auroc
from medanomaly.scoring.image_score import image_score


def test_brightness_is_how_far_a_pixel_is_from_black() -> None:
    x = images(2)
    found = Brightness(sigma_px=0.0).localize(x)
    torch.testing.assert_close(found.anomaly_map, (x + 1) / 2)
    assert torch.equal(found.score, image_score(found.anomaly_map))
    assert found.pseudo_healthy is None


def test_brightness_of_colours_is_their_mean() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    torch.testing.assert_close(Brightness().localize(x).anomaly_map, torch.full((1, 1, 8, 8), 0.5))


def test_brightness_is_smoothed_by_the_sigma_asked_for() -> None:
    x = torch.full((1, 1, 33, 33), -1.0)
    x[..., 16, 16] = 1.0
    found = Brightness(sigma_px=2.0).localize(x).anomaly_map
    assert float(found.sum()) == pytest.approx(1, abs=1e-4)
    assert float(found.max()) == pytest.approx(1 / (2 * torch.pi * 4), rel=0.02)


def test_the_blur_residual_of_a_flat_image_is_nothing_at_any_grey() -> None:
    for grey in (-1.0, 0.3, 1.0):
        assert float(BlurResidual().localize(torch.full((1, 1, 32, 32), grey)).anomaly_map.max()) < 1e-5


def test_the_blur_residual_finds_dark_and_bright_spots_alike_and_not_slow_shading() -> None:
    ramp = torch.linspace(-0.5, 0.5, 64).expand(1, 1, 64, 64)
    spots = ramp.clone()
    spots[..., 30:33, 20:23] += 0.4
    spots[..., 30:33, 40:43] -= 0.4
    shading, found = (BlurResidual().localize(x).anomaly_map[0, 0] for x in (ramp, spots))
    assert float(shading[:, 24:40].max()) < 0.01
    torch.testing.assert_close(found[31, 21], found[31, 41], rtol=0.05, atol=0)
    assert float(found[31, 21]) > 0.1
    bright = spots.clone() + 0.3
    torch.testing.assert_close(BlurResidual().localize(bright).anomaly_map[0, 0], found, atol=1e-5, rtol=0)


def test_the_blur_residual_of_colours_is_summed() -> None:
    gray = images(1)
    one, three = BlurResidual().localize(gray), BlurResidual().localize(gray.expand(1, 3, 16, 16))
    torch.testing.assert_close(three.anomaly_map, 3 * one.anomaly_map)


@pytest.mark.parametrize("blur_px", [0.0, -1.0])
def test_a_blur_that_blurs_nothing_is_refused(blur_px: float) -> None:
    with pytest.raises(ConfigError, match="blur_px"):
        BlurResidual(blur_px=blur_px)


def test_a_random_map_knows_nothing_and_is_the_same_for_the_same_image() -> None:
    x = images(3)
    found = RandomMap().localize(x)
    assert found.anomaly_map.shape == (3, 1, *x.shape[2:])
    assert 0 <= float(found.anomaly_map.min()) < float(found.anomaly_map.max()) < 1
    torch.testing.assert_close(RandomMap().localize(x[1:2]).anomaly_map[0], found.anomaly_map[1], atol=0, rtol=0)
    assert not torch.equal(found.anomaly_map[0], found.anomaly_map[1])
    assert not torch.equal(RandomMap(seed=1).localize(x).anomaly_map, found.anomaly_map)


def test_a_random_map_is_uniform_and_ranks_by_chance() -> None:
    values = RandomMap().localize(torch.zeros(1, 1, 64, 64)).anomaly_map
    # 4,096 draws: the mean lies within 5 standard errors of a half.
    assert abs(float(values.mean()) - 0.5) < 5 / (12 * 4096) ** 0.5
    lesion = torch.zeros(64, 64, dtype=torch.bool)
    lesion[:32] = True
    assert abs(pixel_auroc([values[0, 0].numpy()], [lesion.numpy()]) - 0.5) < 0.05


def test_all_floors_stand_in_the_table() -> None:
    assert [type(method) for method in FLOORS.values()] == [Brightness, BlurResidual, RandomMap]
