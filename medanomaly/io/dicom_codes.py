"""Words of DICOM's coded vocabularies: what a segment marks, where in the body it lies, and what a map's numbers are."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from medanomaly.errors import ConfigError

CATEGORY: Code = codes.SCT.MorphologicallyAbnormalStructure
"""Segmented property category of every finding (PS3.16 CID 7150)."""
DEFAULT_FINDING = "lesion"
NO_UNITS: Code = codes.UCUM.NoUnits
ANOMALY = Code("anomaly-map", "99MEDANOMALY", "Anomaly map")
"""Quantity of a map. A private code: those of PS3.16 CID 7180 name other quantities, such as a perfusion difference."""
ALGORITHM_FAMILY: Code = codes.cid7162.ArtificialIntelligence
SOURCE_IMAGE: Code = codes.DCM.SourceImageForImageProcessingOperation


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A part of the body in both of DICOM's spellings."""

    term: str
    """Defined term of BodyPartExamined."""
    code: Code
    paired: bool
    """Whether there are a left and a right one."""


_UNPAIRED = {
    "ABDOMEN": "Abdomen",
    "BRAIN": "Brain",
    "CHEST": "Chest",
    "CSPINE": "CervicalSpine",
    "HEAD": "Head",
    "HEART": "Heart",
    "LSPINE": "LumbarSpine",
    "NECK": "Neck",
    "PELVIS": "Pelvis",
    "PROSTATE": "Prostate",
    "SKULL": "Skull",
    "SPINE": "Spine",
    "TSPINE": "ThoracicSpine",
}
_PAIRED = {
    "ANKLE": "AnkleJoint",
    "BREAST": "Breast",
    "ELBOW": "ElbowJoint",
    "EYE": "Eye",
    "FOOT": "Foot",
    "HAND": "Hand",
    "HIP": "Hip",
    "KNEE": "Knee",
    "SHOULDER": "Shoulder",
    "WRIST": "WristJoint",
}
REGIONS = {
    term: Region(term=term, code=getattr(codes.SCT, keyword), paired=paired)
    for table, paired in ((_UNPAIRED, False), (_PAIRED, True))
    for term, keyword in table.items()
}
"""BodyPartExamined -> region (PS3.16 annex L). What is not here is not repeated in an output: the element can hold anything."""


def finding_code(name: str) -> Code:
    """The SNOMED CT code of a finding, by its name in DICOM's dictionary in any spelling: "Pleural Effusion", "pleural_effusion".

    Raises:
        ConfigError: E_FINDING, there is none of that name.
    """
    known = {keyword.casefold(): keyword for keyword in codes.SCT.dir()}
    wanted = re.sub(r"[^a-z0-9]", "", name.casefold())
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        advice = f"did you mean {known[near[0]]}?" if near else "use lesion, mass, nodule, pleural effusion, pneumothorax, ..."
        raise ConfigError(f"there is no code for a finding {name!a}", code="E_FINDING", fix=advice)
    code: Code = getattr(codes.SCT, known[wanted])
    return code
