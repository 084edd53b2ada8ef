"""What is asked for, image by image: a class by name, several findings at once, every class in turn, or none."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from medanomaly.errors import ConfigError

Label = tuple[str, ...]
"""Classes that an image shall be of, by name; () = none is asked for, the null class."""
JOINT = ","
"""Between names that are asked for at once."""


def labels_for(text: str | None, count: int, classes: Sequence[str], *, multi_label: bool) -> list[Label]:
    """The label of each of ``count`` images.

    Args:
        text: a class; several, by commas, where an image can be of several; None = every class in turn, and none where there are
            none. Image i keeps its label whatever the count.
        count: of images.
        classes: names that are known.
        multi_label: whether an image can be of several.

    Raises:
        ConfigError: E_CLASS, an unknown class (with the nearest), or several that exclude each other.
    """
    if text is None:
        return [(classes[index % len(classes)],) if classes else () for index in range(count)]
    return [label_of(text, classes, multi_label=multi_label)] * count


def label_of(text: str, classes: Sequence[str], *, multi_label: bool) -> Label:
    """The classes a text names; a class whose name has a comma in it comes first.

    Raises:
        ConfigError: E_CLASS.
    """
    if text in classes:
        return (text,)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(JOINT)))
    for name in names:
        if name not in classes:
            raise unknown_class(name, classes)
    if len(names) > 1 and not multi_label:
        raise ConfigError(
            f"an image cannot be {' and '.join(map(ascii, names))}: these classes exclude each other",
            code="E_CLASS",
            fix="name one, or guide with a multi-label classifier",
        )
    return names


def unknown_class(name: str, classes: Sequence[str]) -> ConfigError:
    """What to say of a name that is no class."""
    if not classes:
        return ConfigError(
            f"this model has no classes, so no {name!a}",
            code="E_CLASS",
            fix="leave the class out, use a conditional model, or guide with a classifier",
        )
    folded = {known.casefold(): known for known in classes}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.4)
    known = ", ".join(map(ascii, classes))
    advice = f"did you mean {folded[near[0]]!a}?" if near else "choose of these"
    return ConfigError(f"class {name!a} is unknown; known are {known}", code="E_CLASS", fix=advice)


def text_of(label: Label) -> str:
    """``Edema,Cardiomegaly``; "" for the null class."""
    return JOINT.join(label)
