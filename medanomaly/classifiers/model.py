"""A classifier as something that is trained: its settings, and one optimiser step on noisy images (arXiv:2105.05233, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast, get_args

import torch
from torch import Tensor

from medanomaly.classifiers.augmentation import Augmentation, AugmentationName
from medanomaly.classifiers.loss import each_by_itself, noised, one_of_many
from medanomaly.classifiers.network import ClassifierConfig, NoisyClassifier
from medanomaly.classifiers.targets import (
    OF_BLANK,
    OF_UNCERTAIN,
    Blank,
    Uncertain,
    batch_of_observations,
    labelled,
    observed,
    targets_of,
)
from medanomaly.datasets.dataset import to_batch
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.observations import Observations
from medanomaly.diffusion.schedule import NoiseSchedule, ScheduleConfig
from medanomaly.errors import ConfigError
from medanomaly.methods.checks import refuse_other_classes
from medanomaly.methods.experiment import CLASSIFIER
from medanomaly.rng import initial_weights
from medanomaly.training.average import averaged, weights_of
from medanomaly.training.batches import Augment
from medanomaly.training.config import TrainingConfig, learning_rate
from medanomaly.training.optimise import adamw, guarded_step
from medanomaly.types import Batch, Sample


@dataclass(frozen=True, kw_only=True)
class ClassifierModelConfig:
    """A classifier of images at any noise level, or of clean ones."""

    kind: ClassVar[str] = CLASSIFIER
    title: ClassVar[str] = "classifier"

    classes: tuple[str, ...] = ("healthy", "diseased")
    """Names of the classes: values of the manifest's label column, or with ``multi_label`` names of its observations."""
    multi_label: bool = False
    """False: an image is of one class (softmax, label column). True: of any number (a sigmoid each, observations column)."""
    uncertain: Uncertain = "masked"
    """An observation of -1 is masked in the loss, or counts as ones or zeros (arXiv:1901.07031, section 3)."""
    blank: Blank = "masked"
    """An observation that is not mentioned is masked in the loss, or counts as zeros."""
    noisy: bool = True
    """True: learns at levels 1..T, drawn as in diffusion training, so it can guide. False: learns clean images, to read them."""
    augmentation: AugmentationName = "none"
    """radiograph (turns, shifts, exposure; never mirrored), pathology (mirrors, quarter turns), retina (all of it but quarter turns)."""
    network: ClassifierConfig = ClassifierConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    """Must be that of the diffusion model it guides."""

    def __post_init__(self) -> None:
        least = 1 if self.multi_label else 2
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < least or "" in self.classes:
            raise ConfigError(
                f"method.classes must be {least} or more different names, got {self.classes}",
                code="E_CONFIG",
                fix=""
                if self.multi_label
                else "name the classes to tell apart, or set method.multi_label true for one observation",
            )
        for name, known in (
            ("uncertain", tuple(OF_UNCERTAIN)),
            ("blank", tuple(OF_BLANK)),
            ("augmentation", get_args(AugmentationName)),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"method.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}", code="E_CONFIG"
                )

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return self.network.size_multiple

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """All of them."""
        return self.classes

    @property
    def label_classes(self) -> tuple[str, ...]:
        """What may stand in the label column; () = it is not looked at."""
        return () if self.multi_label else self.classes

    def targets(self, observations: Observations) -> tuple[int, ...]:
        """1, 0 or -1 = not known for each class, by this config's policies."""
        return targets_of(observations, self.classes, uncertain=self.uncertain, blank=self.blank)

    def usable(self, records: Sequence[Record], split: str, data: Path) -> list[Record]:
        """The records of a split with anything to learn; see ``targets.labelled`` and ``targets.observed`` for what is refused."""
        if self.multi_label:
            return observed(records, self.classes, split, data, self.targets)
        return labelled(records, self.classes, split, data)

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Labels (B,) of one class each, or (B, classes) of 1, 0, -1."""
        if self.multi_label:
            return batch_of_observations(samples, self.classes, uncertain=self.uncertain, blank=self.blank)
        return to_batch(samples, self.classes)

    def augment(self) -> Augment | None:
        """How training images are varied; None = not at all."""
        return None if self.augmentation == "none" else Augmentation(self.augmentation)

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> ClassifierRecipe:
        """A fresh training of this classifier, its weights drawn from ``training.seed``."""
        if self.augmentation == "radiograph" and training.flip:
            raise ConfigError(
                "augmentation radiograph keeps left and right, and training.flip mirrors them",
                code="E_CONFIG",
                fix="set --training.flip false",
            )
        return ClassifierRecipe(self, image_channels=image_channels, training=training, device=device)


class ClassifierRecipe:
    """The network, its moving average and its optimiser. Every draw comes from the generator a step is given."""

    recomputes = False

    def __init__(
        self, config: ClassifierModelConfig, *, image_channels: int, training: TrainingConfig, device: torch.device
    ) -> None:
        self.config, self.training, self.device = config, training, device
        with initial_weights(training.seed):
            network = NoisyClassifier(config.network, image_channels=image_channels, classes=config.classes)
        self.network = network.to(device)
        self.average = averaged(self.network, training.ema_decay)
        self.optimizer = adamw(self.network.parameters(), training)
        self.schedule = NoiseSchedule.from_config(config.schedule)
        self.compare = each_by_itself if config.multi_label else one_of_many
        # The mean over the labels that are known is not the mean of such means over parts of the batch.
        self.by_share = not config.multi_label
        self.num_steps_done = 0

    def loss(self, network: NoisyClassifier, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(cross-entropy, share named right) of a batch, noisy or clean as the config says."""
        x_t, t = batch.x.to(self.device), torch.zeros(len(batch.x), dtype=torch.int64, device=self.device)
        if self.config.noisy:
            x_t, t = noised(x_t, self.schedule, generator, batch.share)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
            scores = network(x_t, t).float()
        return self.compare(scores, batch.label.to(self.device))

    def step(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """One optimiser step; a non-finite loss or gradient changes nothing and is returned as ``skipped`` = 1."""
        self.network.train()
        rate = learning_rate(self.num_steps_done, self.training)
        entropy, accuracy = self.loss(self.network, batch, generator)
        done = guarded_step(entropy, self.optimizer, rate=rate, grad_clip=self.training.grad_clip)
        self.num_steps_done += 1
        if not done["skipped"]:
            self.average.update_parameters(self.network)
        return {"loss": float(entropy.detach()), "accuracy": float(accuracy)} | done

    @torch.inference_mode()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Loss and accuracy of the averaged weights on a batch; the same generator seed gives comparable numbers through a run."""
        entropy, accuracy = self.loss(cast(NoisyClassifier, self.average.module.eval()), batch, generator)
        return {"loss": float(entropy), "accuracy": float(accuracy)}

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, copied."""
        return weights_of(self.average)

    def state(self) -> dict[str, Any]:
        """Everything a bit-for-bit continuation needs."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "num_steps_done": self.num_steps_done,
            "classes": list(self.config.classes),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo of :meth:`state`.

        Raises:
            CheckpointError: the state's classes are not this classifier's, in this order.
        """
        refuse_other_classes(state["classes"], self.config.classes)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_steps_done = int(state["num_steps_done"])
