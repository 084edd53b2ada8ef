from __future__ import annotations

import math

import pytest
import torch

from medanomaly.errors import InputError
from medanomaly.scoring.calibration import HealthyCalibration


def healthy(num: int = 50, side: int = 12) -> torch.Tensor:
    return torch.rand(num, 1, side, side, generator=torch.Generator().manual_seed(1))


def test_mean_and_deviation_are_those_of_all_maps_at_once() -> None:
    maps = healthy()
    calibration = HealthyCalibration.from_healthy_maps(iter(maps))
    torch.testing.assert_close(calibration.mean, maps.mean(dim=0)[0])
    torch.testing.assert_close(calibration.std, maps.std(dim=0)[0])
    assert calibration.num_images == 50


def test_a_small_deviation_on_a_large_mean_is_not_lost_to_rounding() -> None:
    maps = 4096 + healthy() / 16
    calibration = HealthyCalibration.from_healthy_maps(maps)
    torch.testing.assert_close(calibration.std, maps.double().std(dim=0)[0].float(), rtol=1e-4, atol=0)


def test_a_healthy_map_is_about_zero_and_a_lesion_stands_out_in_deviations() -> None:
    calibration = HealthyCalibration(mean=torch.full((4, 4), 0.5), std=torch.full((4, 4), 0.2), num_images=9)
    anomaly_map = torch.full((2, 1, 4, 4), 0.5)
    anomaly_map[1, 0, 2, 3] = 0.5 + 3 * 0.22
    z = calibration.z_map(anomaly_map)
    assert z.shape == anomaly_map.shape
    assert z[1, 0, 2, 3].item() == pytest.approx(3, abs=1e-5)
    assert z.sum().item() == pytest.approx(3, abs=1e-5)


def test_less_than_the_healthy_mean_is_no_anomaly() -> None:
    calibration = HealthyCalibration.from_healthy_maps(healthy())
    assert (calibration.z_map(torch.zeros(1, 1, 12, 12)) == 0).all()


def test_noise_where_healthy_images_never_vary_does_not_outscore_a_lesion() -> None:
    maps = healthy()
    maps[:, :, :, :4] = 0
    calibration = HealthyCalibration.from_healthy_maps(maps)
    anomaly_map = calibration.mean[None, None].clone()
    anomaly_map[0, 0, 0, 0] += 0.01
    anomaly_map[0, 0, 6, 8] += 1.0
    z = calibration.z_map(anomaly_map)
    assert z[0, 0, 0, 0] < z[0, 0, 6, 8] / 2


def test_the_floor_scales_with_the_maps_and_so_z_does_not() -> None:
    maps = healthy()
    z = HealthyCalibration.from_healthy_maps(maps).z_map(maps[:1])
    torch.testing.assert_close(HealthyCalibration.from_healthy_maps(maps * 30).z_map(maps[:1] * 30), z, rtol=1e-4, atol=1e-5)


def test_maps_that_never_vary_at_all_give_finite_scores() -> None:
    calibration = HealthyCalibration.from_healthy_maps(torch.zeros(3, 1, 4, 4))
    assert calibration.std_floor == 1e-6
    assert torch.isfinite(calibration.z_map(torch.ones(1, 1, 4, 4))).all()


def test_each_map_is_scored_on_its_own_and_in_its_own_precision() -> None:
    calibration = HealthyCalibration.from_healthy_maps(healthy())
    maps = healthy(3).double()
    maps[2] *= 100
    z = calibration.z_map(maps)
    assert z.dtype == torch.float64
    torch.testing.assert_close(z[:1], calibration.z_map(maps[:1]), atol=0, rtol=0)


@pytest.mark.parametrize(
    "maps",
    [
        [],
        [torch.zeros(1, 4, 4)],
        [torch.zeros(1, 4, 4), torch.zeros(1, 4, 5)],
        [torch.zeros(1, 4, 4), torch.full((1, 4, 4), math.nan)],
        [torch.zeros(1, 4, 4).bfloat16()] * 2,
        [torch.zeros(2, 4, 4)] * 2,
    ],
)
def test_maps_that_cannot_calibrate_are_refused(maps: list[torch.Tensor]) -> None:
    with pytest.raises(InputError):
        HealthyCalibration.from_healthy_maps(maps)


def test_another_model_size_is_refused() -> None:
    with pytest.raises(InputError, match="model size"):
        HealthyCalibration.from_healthy_maps(healthy()).z_map(torch.zeros(1, 1, 1, 12))


def test_a_damaged_calibration_is_refused() -> None:
    good = torch.ones(2, 2)
    for mean, std in ((good * math.nan, good), (good, -good), (good, torch.ones(2, 3))):
        with pytest.raises(InputError):
            HealthyCalibration(mean=mean, std=std, num_images=2)
