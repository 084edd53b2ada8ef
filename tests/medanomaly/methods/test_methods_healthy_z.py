from dataclasses import replace

import pytest
import torch
from toys import images, samples, tiny_config, tiny_method

from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.calibrate import healthy_calibration
from medanomaly.methods.cfg_diffusion import CfgDiffusion, CfgDiffusionConfig
from medanomaly.scoring.finish import CALIBRATION, MapConfig

CPU = torch.device("cpu")


def calibrated(config: CfgDiffusionConfig, raw: CfgDiffusion) -> CfgDiffusion:
    found = healthy_calibration(raw, samples(6, seed=3), batch_size=4)
    tensors = (found.mean, found.std, torch.tensor(found.num_images))
    weights = raw.denoiser.state_dict() | dict(zip(CALIBRATION, tensors, strict=True))
    return config.restore(weights, image_channels=1, device=CPU, source="test")


def test_a_calibrated_map_is_the_raw_one_in_healthy_deviations() -> None:
    raw = tiny_method()
    config = replace(raw.config, map=replace(raw.config.map, healthy_z=True))
    x = images(3, seed=9)
    maps = torch.cat([raw.localize(sample.x[None]).anomaly_map for sample in samples(6, seed=3)])
    mean, std = maps.mean(dim=0), maps.std(dim=0)
    expected = ((raw.localize(x).anomaly_map - mean) / (std + 0.1 * std.mean())).clamp(min=0)
    torch.testing.assert_close(calibrated(config, raw).localize(x).anomaly_map, expected, rtol=1e-3, atol=1e-3)


def test_a_calibrated_method_needs_its_calibration() -> None:
    raw = tiny_method()
    config = replace(raw.config, map=MapConfig(healthy_z=True))
    with pytest.raises(ConfigError, match="E_CALIBRATION"):
        config.restore(raw.denoiser.state_dict(), image_channels=1, device=CPU, source="test")


def test_a_stored_calibration_is_not_used_unasked() -> None:
    raw = tiny_method()
    x = images(2, seed=1)
    again = calibrated(raw.config, raw)
    torch.testing.assert_close(again.localize(x).anomaly_map, raw.localize(x).anomaly_map)


def test_one_healthy_image_is_too_few() -> None:
    with pytest.raises(InputError, match="E_EMPTY"):
        healthy_calibration(tiny_method(tiny_config()), samples(1, seed=3))


def test_the_unit_says_what_the_map_is() -> None:
    assert "deviations" in MapConfig(healthy_z=True).unit
    assert "pseudo-healthy" in MapConfig().unit
