from __future__ import annotations

import pytest

from medanomaly.errors import ConfigError
from medanomaly.generation.labels import label_of, labels_for, text_of

FINDINGS = ("Edema", "Cardiomegaly", "Pleural Effusion")


def test_without_a_word_every_class_has_its_turn_and_an_image_keeps_its_own() -> None:
    few, many = (labels_for(None, count, ("a", "b", "c"), multi_label=False) for count in (4, 7))
    assert few == [("a",), ("b",), ("c",), ("a",)] == many[:4]
    assert labels_for(None, 2, (), multi_label=False) == [(), ()]


def test_findings_can_be_asked_for_at_once_and_classes_cannot() -> None:
    assert labels_for("Edema, Cardiomegaly", 2, FINDINGS, multi_label=True) == [("Edema", "Cardiomegaly")] * 2
    assert text_of(("Edema", "Cardiomegaly")) == "Edema,Cardiomegaly"
    with pytest.raises(ConfigError, match=r"cannot be 'Edema' and 'Cardiomegaly'.* \[E_CLASS\]"):
        label_of("Edema,Cardiomegaly", FINDINGS, multi_label=False)


def test_a_class_with_a_comma_in_its_name_is_one_class() -> None:
    assert label_of("a,b", ("a,b", "a", "b"), multi_label=True) == ("a,b",)


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        ("plural effusion", FINDINGS, r"'plural effusion' is unknown.*\[E_CLASS\]; did you mean 'Pleural Effusion'\?"),
        ("Edema,Cardiomegali", FINDINGS, r"'Cardiomegali' is unknown.*did you mean 'Cardiomegaly'\?"),
        ("x", FINDINGS, r"known are 'Edema', 'Cardiomegaly', 'Pleural Effusion' \[E_CLASS\]; choose of these"),
        ("", FINDINGS, "class '' is unknown"),
        ("3", (), "no classes, so no '3'"),
    ],
)
def test_an_unknown_class_is_refused_with_the_nearest_name(text: str, classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        label_of(text, classes, multi_label=True)
