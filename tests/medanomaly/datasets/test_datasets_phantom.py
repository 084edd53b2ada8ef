from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

import medanomaly.datasets.phantom
from medanomaly.datasets.manifest import Record, read_manifest
from medanomaly.datasets.phantom import Phantom, PhantomConfig, block_mean, draw_phantom, phantom_set
from medanomaly.errors import ConfigError
from medanomaly.io.reader import read_image
from medanomaly.types import BoolArray

DISEASED = range(50)


@pytest.fixture(scope="module")
def diseased() -> list[Phantom]:
    """One film of each of fifty patients with an effusion."""
    return [draw_phantom(0, patient, 0, diseased=True) for patient in DISEASED]


def same(one: Phantom, other: Phantom) -> bool:
    pairs = ((one.pixels, other.pixels), (one.healthy_twin, other.healthy_twin), (one.mask, other.mask))
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


def test_equal_arguments_give_equal_films() -> None:
    assert same(draw_phantom(3, 5, 1, diseased=True), draw_phantom(3, 5, 1, diseased=True))


def test_the_films_are_the_ones_released_weights_were_trained_on() -> None:
    # Mean grey of the sixteen blocks of 16 x 16 px, by: draw_phantom(0, 1, 0, diseased=True).pixels.reshape(4, 16, 4, 16).mean((1, 3)).
    expected = [
        [82.16, 150.70, 157.99, 101.11],
        [103.04, 90.26, 117.06, 118.10],
        [127.14, 165.68, 166.08, 140.30],
        [121.63, 176.15, 185.47, 164.56],
    ]
    found = draw_phantom(0, 1, 0, diseased=True).pixels.reshape(4, 16, 4, 16).mean(axis=(1, 3))
    # Half a grey level: another machine's rounding moves single pixels by one, another drawing moves blocks by tens.
    np.testing.assert_allclose(found, expected, atol=0.5)


def test_patients_films_and_seeds_share_nothing() -> None:
    first = draw_phantom(0, 1, 0, diseased=True)
    for other in (
        draw_phantom(0, 3, 0, diseased=True),
        draw_phantom(0, 1, 1, diseased=True),
        draw_phantom(1, 1, 0, diseased=True),
    ):
        assert float((first.pixels != other.pixels).mean()) > 0.5
        assert float((first.healthy_twin != other.healthy_twin).mean()) > 0.5


def test_a_healthy_film_is_its_own_twin_without_a_lesion() -> None:
    for patient in range(10):
        phantom = draw_phantom(0, patient, 0, diseased=False)
        assert np.array_equal(phantom.pixels, phantom.healthy_twin)
        assert not phantom.mask.any()


def test_the_twin_of_a_diseased_film_is_the_same_patient_drawn_healthy(diseased: list[Phantom]) -> None:
    for patient in (0, 7):
        assert np.array_equal(diseased[patient].healthy_twin, draw_phantom(0, patient, 0, diseased=False).pixels)


def within_3_px(mask: BoolArray) -> BoolArray:
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=3), np.bool_)


def covered_at_all(patient: int) -> BoolArray:
    """Pixels of a film with any fluid, seen where the mask is made: it averages the sub-pixels' coverage last."""
    averaged: list[BoolArray] = []

    def watched(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        averaged.append(block_mean(image) > 0)
        return block_mean(image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(medanomaly.datasets.phantom, "block_mean", watched)
        draw_phantom(0, patient, 0, diseased=True)
    return averaged[-1]


def test_fluid_only_brightens_and_only_within_3_px_of_itself(diseased: list[Phantom]) -> None:
    outside = []
    for patient, phantom in enumerate(diseased):
        difference = phantom.pixels.astype(int) - phantom.healthy_twin
        assert difference.min() >= 0
        beyond = (difference > 0) & ~within_3_px(phantom.mask)
        outside.append(difference[beyond].sum() / difference.sum())
        if beyond.any():
            # A tongue of fluid thinner than half a pixel is not in the mask.
            assert not beyond[~within_3_px(covered_at_all(patient))].any()
    assert np.mean(np.array(outside) > 0) < 0.1
    assert max(outside) < 0.01


def test_every_effusion_can_be_seen_inside_its_mask(diseased: list[Phantom]) -> None:
    for phantom in diseased:
        difference = phantom.pixels.astype(int) - phantom.healthy_twin
        assert phantom.mask.sum() >= 20
        assert difference[phantom.mask].mean() > 15
        # Half covered is half bright: inside the mask nearly every pixel is more changed than the noise of a film.
        assert float((difference[phantom.mask] > 5).mean()) > 0.9


def test_effusions_come_small_and_large_and_on_both_sides(diseased: list[Phantom]) -> None:
    areas = np.array([phantom.mask.sum() for phantom in diseased])
    assert np.quantile(areas, 0.9) > 3 * np.quantile(areas, 0.1)
    left = sum(bool(phantom.mask[:, :32].any()) for phantom in diseased)
    right = sum(bool(phantom.mask[:, 32:].any()) for phantom in diseased)
    assert min(left, right) > 15
    assert left + right < 1.5 * len(diseased)


@pytest.mark.parametrize("size", [32, 100])
def test_another_size_shows_the_same_anatomy(size: int) -> None:
    small, large = (draw_phantom(0, 1, 0, diseased=True, image_size=side) for side in (size, 2 * size))
    assert small.pixels.shape == small.mask.shape == (size, size)
    assert small.pixels.dtype == np.uint8
    halved = large.pixels.reshape(size, 2, size, 2).mean(axis=(1, 3))
    correlation = np.corrcoef(
        ndimage.gaussian_filter(small.pixels.astype(float), 1).ravel(), ndimage.gaussian_filter(halved, 1).ravel()
    )
    assert correlation[0, 1] > 0.98


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    out = tmp_path_factory.mktemp("phantoms")
    return out, phantom_set(PhantomConfig(num_patients=10, images_per_patient=2, image_size=32, seed=4), out)


def test_a_set_is_a_manifest_that_reads_back_to_the_very_pixels(written: tuple[Path, list[Record]]) -> None:
    out, records = written
    assert read_manifest(out / "manifest.csv") == records
    for patient, film, record in zip(np.repeat(range(10), 2), [0, 1] * 10, records, strict=True):
        phantom = draw_phantom(4, int(patient), film, diseased=patient % 2 == 1, image_size=32)
        assert np.array_equal(read_image(record.image).pixels[0], phantom.pixels)
        assert record.label == ("diseased" if patient % 2 else "healthy")
        assert (record.mask is None) == (record.label == "healthy")
        if record.mask is not None:
            assert np.array_equal(read_image(record.mask).pixels[0] > 0, phantom.mask)
            assert np.array_equal(read_image(out / "healthy_twins" / record.image.name).pixels[0], phantom.healthy_twin)


def test_a_patient_is_in_one_split_with_both_classes_in_each(written: tuple[Path, list[Record]]) -> None:
    _, records = written
    splits = {
        record.patient_id: {other.split for other in records if other.patient_id == record.patient_id} for record in records
    }
    assert all(len(found) == 1 for found in splits.values())
    for split in ("train", "val", "test"):
        assert {record.label for record in records if record.split == split} == {"healthy", "diseased"}


def test_two_seeds_share_no_id_and_no_patient(written: tuple[Path, list[Record]], tmp_path: Path) -> None:
    _, records = written
    others = phantom_set(PhantomConfig(num_patients=10, images_per_patient=1, image_size=32, seed=5), tmp_path)
    for key in ("id", "patient_id"):
        assert {getattr(record, key) for record in records}.isdisjoint(getattr(record, key) for record in others)


@pytest.mark.parametrize("settings", [{"num_patients": 0}, {"images_per_patient": 0}, {"image_size": 31}, {"image_size": 1025}])
def test_a_set_that_cannot_be_drawn_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        PhantomConfig(**settings)
