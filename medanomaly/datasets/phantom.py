"""Chest-radiograph phantoms with pleural effusions whose masks are exact: drawn from a seed, nothing downloaded.

A phantom is a sum of attenuations, like a film: body, mediastinum and heart, two dark lungs with ribs, vessels and apices,
diaphragm, film noise. An effusion fills the lower part of one or both lungs with fluid under a meniscus that climbs towards the chest
wall. The fluid is added before blur and noise, so a diseased phantom and its healthy twin (the same anatomy, the same noise) differ
only there, and the mask is exactly where the fluid covers at least half a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medanomaly.datasets.manifest import Record, write_manifest
from medanomaly.datasets.splits import split_by_patient
from medanomaly.errors import ConfigError
from medanomaly.io.writers import write_png
from medanomaly.rng import numpy_generator
from medanomaly.types import BoolArray

FloatImage = npt.NDArray[np.float64]

SUPERSAMPLING = 4
"""Sub-pixels per pixel side: coverage is measured, not guessed, so masks are exact to 1/16 of a pixel."""


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """A set of phantom patients."""

    num_patients: int = 120
    """Patients; half of them have an effusion."""
    images_per_patient: int = 2
    """Films of one patient: the same anatomy, another breath, exposure and noise."""
    image_size: int = 64
    """Rows and columns, px."""
    seed: int = 0
    """Two sets with different seeds share no patient."""

    def __post_init__(self) -> None:
        if self.num_patients < 1 or self.images_per_patient < 1:
            raise ConfigError("num_patients and images_per_patient must be at least 1", code="E_CONFIG")
        if not 32 <= self.image_size <= 1024:
            raise ConfigError(f"image_size must be in 32..1024 px, got {self.image_size}", code="E_CONFIG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What does not change between two films of a patient; lengths are fractions of the image side."""

    lung_x: tuple[float, float]
    lung_y: float
    lung_width: tuple[float, float]
    lung_height: float
    heart: tuple[float, float, float, float]
    spine_width: float
    rib_count: float
    rib_phase: float
    rib_slope: float
    tissue: float
    vessel_seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fluid:
    """An effusion of one lung."""

    level: float
    """Height of the fluid at its lowest point, as a fraction of the lung's height."""
    climb: float
    """How much higher the meniscus stands at the chest wall, as a fraction of the lung's height."""
    opacity: float
    """Attenuation added where the fluid is, in grey levels of [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """One film with its truth."""

    pixels: npt.NDArray[np.uint8]
    """(H, W) what a viewer shows."""
    healthy_twin: npt.NDArray[np.uint8]
    """(H, W) the same film without the fluid."""
    mask: BoolArray
    """(H, W) True where fluid covers at least half of the pixel."""


def draw_phantom(seed: int, patient: int, film: int, *, diseased: bool, image_size: int = 64) -> Phantom:
    """The film number ``film`` of patient number ``patient``; equal arguments give equal pixels on every machine."""
    anatomy = draw_anatomy(numpy_generator(seed, "phantom-anatomy", patient))
    rng = numpy_generator(seed, "phantom-film", patient, film)
    breath, shift, turn = rng.uniform(-0.025, 0.025), rng.uniform(-0.02, 0.02, size=2), rng.uniform(-0.04, 0.04)
    exposure, contrast = rng.uniform(-0.02, 0.02), rng.uniform(0.92, 1.06)
    side = image_size * SUPERSAMPLING
    grid = (np.arange(side) + 0.5) / side - 0.5
    rows, columns = np.meshgrid(grid, grid, indexing="ij")
    y = np.cos(turn) * rows - np.sin(turn) * columns - shift[0]
    x = np.sin(turn) * rows + np.cos(turn) * columns - shift[1]

    lungs = [lung_coverage(x, y, anatomy, side_index, breath) * (1 - heart_coverage(x, y, anatomy)) for side_index in (0, 1)]
    film_image = draw_thorax(x, y, anatomy, lungs)
    fluid_image = np.zeros_like(film_image)
    covered = np.zeros_like(film_image)
    fluid_rng = numpy_generator(seed, "phantom-fluid", patient)
    if diseased:
        for side_index in fluid_sides(fluid_rng):
            fluid = draw_fluid(fluid_rng)
            here = fluid_coverage(x, y, anatomy, side_index, breath, fluid, lungs[side_index])
            covered = np.maximum(covered, here)
            fluid_image = np.maximum(fluid_image, fluid.opacity * here)

    noise = film_noise(rng, image_size)

    def develop(attenuation: FloatImage) -> npt.NDArray[np.uint8]:
        pixels = block_mean(ndimage.gaussian_filter(attenuation, 0.5 * SUPERSAMPLING))
        pixels = (pixels - 0.5) * contrast + 0.5 + exposure + noise
        return np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)

    return Phantom(
        pixels=develop(np.minimum(film_image + fluid_image, 0.92)),
        healthy_twin=develop(np.minimum(film_image, 0.92)),
        mask=block_mean(covered) >= 0.5,
    )


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """A patient's build."""
    half_gap = rng.uniform(0.175, 0.205)
    return Anatomy(
        lung_x=(-half_gap, half_gap),
        lung_y=rng.uniform(-0.05, 0.0),
        lung_width=(rng.uniform(0.125, 0.15), rng.uniform(0.12, 0.145)),
        lung_height=rng.uniform(0.31, 0.36),
        heart=(rng.uniform(0.03, 0.07), rng.uniform(0.12, 0.17), rng.uniform(0.11, 0.15), rng.uniform(0.12, 0.16)),
        spine_width=rng.uniform(0.045, 0.06),
        rib_count=rng.uniform(7.0, 9.0),
        rib_phase=rng.uniform(0, 2 * np.pi),
        rib_slope=rng.uniform(0.25, 0.5),
        tissue=rng.uniform(0.62, 0.72),
        vessel_seed=int(rng.integers(2**31)),
    )


def fluid_sides(rng: np.random.Generator) -> tuple[int, ...]:
    """Which lungs hold fluid: one of them in four of five patients, else both."""
    first = int(rng.integers(2))
    return (first,) if rng.random() < 0.8 else (0, 1)


def draw_fluid(rng: np.random.Generator) -> Fluid:
    """A small to large effusion: blunted angle up to half a lung."""
    return Fluid(level=rng.uniform(0.10, 0.50), climb=rng.uniform(0.08, 0.22), opacity=rng.uniform(0.28, 0.48))


def soft_step(distance: FloatImage, width: float) -> FloatImage:
    """0 to 1 across an edge ``width`` wide."""
    return np.clip(distance / width + 0.5, 0, 1)


def lung_frame(x: FloatImage, y: FloatImage, anatomy: Anatomy, side_index: int, breath: float) -> tuple[FloatImage, FloatImage]:
    """Coordinates in one lung: u from -1 at the mediastinum to 1 at the chest wall, v from -1 at the apex to 1 at the base."""
    outward = -1.0 if side_index == 0 else 1.0
    u = outward * (x - anatomy.lung_x[side_index]) / anatomy.lung_width[side_index]
    v = (y - anatomy.lung_y - breath / 2) / (anatomy.lung_height + breath)
    return u, v


def lung_coverage(x: FloatImage, y: FloatImage, anatomy: Anatomy, side_index: int, breath: float) -> FloatImage:
    """1 inside a lung: a super-ellipse with a narrow apex, cut by the dome of the diaphragm, deepest at the chest wall."""
    u, v = lung_frame(x, y, anatomy, side_index, breath)
    width = np.clip(0.62 + 0.38 * (v + 1), 0.3, 1.0)
    inside = 1 - (np.abs(u / width) ** 2.6 + np.abs(np.minimum(v, 0)) ** 2.4)
    base = diaphragm(u)
    return np.minimum(soft_step(inside, 0.02), soft_step(base - v, 0.02))


def diaphragm(u: FloatImage) -> FloatImage:
    """v of the diaphragm's dome at u: highest inside the middle, falling into the costophrenic angle at the wall."""
    return 0.78 - 0.16 * np.cos((u + 0.25) * 1.9) + 0.2 * np.clip(u, 0, 1) ** 2


def draw_thorax(x: FloatImage, y: FloatImage, anatomy: Anatomy, lungs: list[FloatImage]) -> FloatImage:
    """Attenuation of a healthy chest in [0, 1]."""
    body = soft_step(1 - ((x / 0.46) ** 4 + (np.clip(-y - 0.18, 0, None) / 0.32) ** 2), 0.1)
    image = 0.04 + body * anatomy.tissue
    lung = np.maximum(*lungs)
    air = 0.46 + 0.06 * np.clip(y + 0.1, -0.3, 0.3)
    image = image - lung * air
    ribs = (
        np.maximum(0, np.sin(2 * np.pi * anatomy.rib_count * (y + anatomy.rib_slope * np.abs(x) ** 1.5) + anatomy.rib_phase)) ** 3
    )
    image = image + 0.075 * ribs * lung
    image = image + vessels(anatomy, image.shape[0], x) * lung
    spine = np.exp(-0.5 * (x / anatomy.spine_width) ** 2)
    image = image + 0.14 * spine * body
    heart = heart_coverage(x, y, anatomy)
    image = image + heart * np.maximum(anatomy.tissue + 0.06 - image, 0)
    clavicle = np.exp(-0.5 * ((y + 0.30 + 0.25 * np.abs(np.abs(x) - 0.1)) / 0.012) ** 2) * (np.abs(x) > 0.06) * (np.abs(x) < 0.34)
    return np.clip(image + 0.09 * clavicle * body, 0, 0.92)


def heart_coverage(x: FloatImage, y: FloatImage, anatomy: Anatomy) -> FloatImage:
    """1 inside the heart's silhouette."""
    offset, low, radius_x, radius_y = anatomy.heart
    return soft_step(1 - np.sqrt(((x - offset) / radius_x) ** 2 + ((y - low) / radius_y) ** 2), 0.12)


def vessels(anatomy: Anatomy, side: int, x: FloatImage) -> FloatImage:
    """Lung markings: smooth texture of the patient, stronger towards the hilum."""
    coarse = np.random.default_rng(anatomy.vessel_seed).normal(size=(24, 24))
    texture = ndimage.zoom(coarse, side / 24, order=3, mode="nearest", grid_mode=True)
    markings: FloatImage = 0.035 * texture * (0.6 + 0.8 * np.exp(-(((np.abs(x) - 0.1) / 0.08) ** 2)))
    return markings


def fluid_coverage(
    x: FloatImage, y: FloatImage, anatomy: Anatomy, side_index: int, breath: float, fluid: Fluid, lung: FloatImage
) -> FloatImage:
    """1 where fluid is: in the lung, under a meniscus that is concave upwards and stands higher at the chest wall."""
    u, v = lung_frame(x, y, anatomy, side_index, breath)
    surface = 0.86 - 2 * fluid.level - 2 * fluid.climb * np.clip(u, 0, 1) ** 2 - fluid.climb * np.clip(-u, 0, 1) ** 2
    return lung * soft_step(v - surface, 0.04)


def film_noise(rng: np.random.Generator, image_size: int) -> FloatImage:
    """Quantum mottle: white noise with a little correlation, standard deviation 0.012 of the grey range."""
    white = rng.normal(size=(image_size, image_size))
    mottle = ndimage.gaussian_filter(rng.normal(size=(image_size, image_size)), 1.0) * 3.5
    noise: FloatImage = 0.0085 * white + 0.0085 * mottle
    return noise


def block_mean(image: FloatImage) -> FloatImage:
    """Mean over each pixel's sub-pixels."""
    size = image.shape[0] // SUPERSAMPLING
    means: FloatImage = image.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean(axis=(1, 3))
    return means


def phantom_set(config: PhantomConfig, out: Path, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> list[Record]:
    """Write a labelled phantom set: images, exact masks of the diseased, healthy twins, ``manifest.csv``.

    Args:
        config: how many, how large, which seed.
        out: folder to create; existing files of the same names are replaced by equal ones.
        fractions: of patients in train, val, test; every second patient is diseased.
    """
    records = []
    for patient in range(config.num_patients):
        diseased = patient % 2 == 1
        for film in range(config.images_per_patient):
            name = f"s{config.seed}-p{patient:05d}-f{film}"
            phantom = draw_phantom(config.seed, patient, film, diseased=diseased, image_size=config.image_size)
            write_png(out / "images" / f"{name}.png", phantom.pixels)
            if diseased:
                write_png(out / "masks" / f"{name}.png", phantom.mask)
                write_png(out / "healthy_twins" / f"{name}.png", phantom.healthy_twin)
            records.append(
                Record(
                    id=name,
                    patient_id=f"s{config.seed}-p{patient:05d}",
                    image=out / "images" / f"{name}.png",
                    label="diseased" if diseased else "healthy",
                    mask=out / "masks" / f"{name}.png" if diseased else None,
                    annotated_empty=not diseased,
                    source="medanomaly chest phantom",
                )
            )
    records = split_by_patient(records, fractions, config.seed)
    write_manifest(records, out / "manifest.csv")
    return records
