"""The bulk job with methods whose answer is known, and with methods that fail on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import ConfigError, ResourceError
from medanomaly.evaluation import bulk, bulk_outputs, job_report
from medanomaly.evaluation.bulk import BulkSettings, localize_all, locked
from medanomaly.evaluation.job_report import Summary
from medanomaly.io.options import ReadOptions
from medanomaly.types import AnomalyResult, WalkObserver

SIDE = 16
SETTINGS = BulkSettings(threshold=0.5, scale_max=2.0, identity="first", batch_size=4)


class Whiteness:
    """The map is how far a pixel is above black; counts the images of each call."""

    def __init__(self, refuse: Callable[[Tensor], BaseException | None] = lambda _x: None) -> None:
        self.refuse = refuse
        self.sizes: list[int] = []

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        self.sizes.append(len(x))
        if (error := self.refuse(x)) is not None:
            raise error
        anomaly_map = x + 1
        return AnomalyResult(anomaly_map=anomaly_map, score=anomaly_map.amax(dim=(1, 2, 3)), pseudo_healthy=-torch.ones_like(x))


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Seven images; image n is gray 10 n all over but for one white pixel."""
    made = []
    for index in range(7):
        pixels = np.full((SIDE, SIDE), 10 * index, np.uint8)
        pixels[3, 5] = 255
        path = tmp_path / "in" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
        made.append(Record(id=path.name, patient_id=path.name, image=path))
    return made


def job(
    method: Whiteness,
    records: list[Record],
    out: Path,
    settings: BulkSettings = SETTINGS,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    return localize_all(method, records, PreprocessConfig(image_size=SIDE), out, settings, options=ReadOptions(), stop=stop)


def lines_of(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]


def results_of(out: Path) -> dict[str, bytes]:
    """Every result file below a folder with its bytes."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*/*")) if path.is_file()}


def out_of_memory_above(limit: int, error: BaseException) -> Callable[[Tensor], BaseException | None]:
    return lambda x: error if len(x) > limit else None


def test_maps_masks_and_reports_hold_the_methods_answer(records: list[Record], tmp_path: Path) -> None:
    summary = job(Whiteness(), records, tmp_path / "out")
    assert (summary.ok, summary.skipped, summary.failed, summary.exit_code()) == (7, 0, 0, 0)
    for index, line in enumerate(lines_of(tmp_path / "out")):
        name = Path(str(line["outputs"][0])).stem  # type: ignore[index]
        anomaly_map = np.load(tmp_path / "out" / "maps" / f"{name}.npy")
        expected = np.full((SIDE, SIDE), 10 * index / 127.5, np.float32)
        expected[3, 5] = 2
        np.testing.assert_allclose(anomaly_map, expected, atol=1e-6)
        with Image.open(tmp_path / "out" / "masks" / f"{name}.png") as mask:
            np.testing.assert_array_equal(np.asarray(mask) > 0, anomaly_map > 0.5)
        assert line["score"] == 2
        assert line["seconds"] > 0  # type: ignore[operator]
        assert len(str(line["sha256_in"])) == 64
    assert json.loads((tmp_path / "out" / "status.json").read_text())["status"] == "done"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("[enforce fail] can't allocate memory"), MemoryError()]
)
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost_or_changed(
    error: BaseException, records: list[Record], tmp_path: Path
) -> None:
    one, halved = Whiteness(), Whiteness(out_of_memory_above(2, error))
    job(one, records, tmp_path / "one", replace(SETTINGS, batch_size=1))
    summary = job(halved, records, tmp_path / "halved", replace(SETTINGS, batch_size=7))
    assert one.sizes == [1] * 7
    assert halved.sizes == [7, 3, 1, 2, 4, 2, 2]
    assert (summary.ok, summary.failed) == (7, 0)
    assert results_of(tmp_path / "halved") == results_of(tmp_path / "one")
    assert [line["id"] for line in lines_of(tmp_path / "halved")] == [record.id for record in records]


def test_a_single_image_that_does_not_fit_fails_alone(records: list[Record], tmp_path: Path) -> None:
    def too_bright(x: Tensor) -> BaseException | None:
        return torch.OutOfMemoryError("CUDA out of memory.") if bool((x[:, :, 0, 0] > -0.55).any()) else None

    summary = job(Whiteness(too_bright), records, tmp_path / "out")
    assert (summary.ok, summary.failed, summary.reasons, summary.exit_code()) == (6, 1, {"E_MEMORY": 1}, 3)
    failed = [line for line in lines_of(tmp_path / "out") if line["status"] == "failed"]
    assert [(line["id"], line["reason_code"], line["outputs"]) for line in failed] == [("6.png", "E_MEMORY", [])]


def test_the_memory_of_an_attempt_that_failed_is_free_before_the_next(records: list[Record], tmp_path: Path) -> None:
    alive: list[object] = []

    class Held:
        """Stands for the activations of a forward pass."""

        def __init__(self) -> None:
            alive.append(self)

        def __del__(self) -> None:
            count[0] -= 1

    count = [0]

    class Hungry(Whiteness):
        def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
            assert count[0] == 0, "the frames of the failed attempt are still held"
            count[0] += 1
            activations = Held()
            alive.clear()
            if len(x) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            del activations
            return super().localize(x, observer)

    assert job(Hungry(), records, tmp_path / "out", replace(SETTINGS, batch_size=7)).ok == 7


def test_another_fault_of_the_method_is_not_taken_for_lack_of_memory(records: list[Record], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        job(Whiteness(lambda _x: RuntimeError("shapes cannot be multiplied")), records, tmp_path / "out")


def test_a_map_that_is_not_finite_fails_its_image_only(records: list[Record], tmp_path: Path) -> None:
    class Broken(Whiteness):
        def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
            result = super().localize(x, observer)
            return replace(result, anomaly_map=torch.where(x[:, :, :1, :1] == -1, torch.nan, result.anomaly_map))

    summary = job(Broken(), records, tmp_path / "out")
    assert (summary.ok, summary.reasons) == (6, {"E_NONFINITE": 1})
    assert lines_of(tmp_path / "out")[0]["reason_code"] == "E_NONFINITE"
    assert not any(name.startswith(f"maps/{Path(records[0].id).stem}") for name in results_of(tmp_path / "out"))


@pytest.mark.parametrize(
    ("constant", "note"), [((), ""), ((1,), "constant channel 2 of 4; "), ((0, 1, 2, 3), "every pixel holds 0; constant image; ")]
)
def test_constant_channels_and_the_channel_of_the_pictures_are_told(constant: tuple[int, ...], note: str, tmp_path: Path) -> None:
    planes = np.random.default_rng(0).normal(size=(4, SIDE, SIDE)).astype(np.float32)
    planes[list(constant)] = 0
    np.save(tmp_path / "a.npy", planes)
    preprocess = PreprocessConfig(image_size=SIDE, channels=4)
    method = Whiteness()
    method.localize = lambda x, observer=None: AnomalyResult(  # type: ignore[method-assign]
        anomaly_map=(x + 1).sum(dim=1, keepdim=True), score=x.amax(dim=(1, 2, 3)), pseudo_healthy=-torch.ones_like(x)
    )
    record = Record(id="a", patient_id="a", image=tmp_path / "a.npy")
    localize_all(method, [record], preprocess, tmp_path / "out", SETTINGS, options=ReadOptions(channels=4))
    (line,) = lines_of(tmp_path / "out")
    assert line["message"] == f"{note}pictures: channel 1 of 4 shown"
    twins = [np.load(tmp_path / "out" / str(name)) for name in line["outputs"] if str(name).endswith(".npy")][1:]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(twins, -np.ones((1, 4, SIDE, SIDE)))


def test_a_job_stopped_between_batches_is_preempted_and_the_same_call_finishes_it(records: list[Record], tmp_path: Path) -> None:
    answers: Iterator[bool] = iter([False, True])
    first = job(Whiteness(), records, tmp_path / "out", stop=lambda: next(answers))
    assert (first.ok, first.stopped) == (4, True)
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert (status["status"], status["ok"]) == ("preempted", 4)
    second = job(method := Whiteness(), records, tmp_path / "out")
    assert (second.ok, second.skipped, second.stopped) == (3, 4, False)
    assert method.sizes == [3]
    assert json.loads((tmp_path / "out" / "status.json").read_text())["status"] == "done"
    job(Whiteness(), records, tmp_path / "whole")
    assert results_of(tmp_path / "out") == results_of(tmp_path / "whole")


@pytest.mark.parametrize("torn", ['{"id": "3.png", "stat', '{"id": "3.png"}\n', "17\n", "\n\n", "\xff\xfe"])
def test_a_report_damaged_by_a_kill_costs_only_the_lines_that_are_damaged(
    torn: str, records: list[Record], tmp_path: Path
) -> None:
    job(Whiteness(), records[:3], tmp_path / "out")
    with open(tmp_path / "out" / "report.jsonl", "ab") as stream:
        stream.write(torn.encode("latin-1"))
    method = Whiteness()
    assert job(method, records, tmp_path / "out").skipped == 3
    assert method.sizes == [4]
    assert job(method, records, tmp_path / "out").skipped == 7
    assert method.sizes == [4]


def test_a_line_torn_by_a_kill_is_cut_so_that_every_line_is_json(records: list[Record], tmp_path: Path) -> None:
    job(Whiteness(), records[:3], tmp_path / "out")
    report = tmp_path / "out" / "report.jsonl"
    report.write_bytes(report.read_bytes()[:-20])
    assert job(Whiteness(), records, tmp_path / "out").ok == 5
    assert [line["id"] for line in lines_of(tmp_path / "out")] == ["0.png", "1.png", *(f"{n}.png" for n in range(2, 7))]


def test_results_of_other_settings_are_refused_or_replaced(records: list[Record], tmp_path: Path) -> None:
    job(Whiteness(), records, tmp_path / "out")
    other = replace(SETTINGS, identity="second", threshold=1.0)
    with pytest.raises(ConfigError) as caught:
        job(Whiteness(), records, tmp_path / "out", other)
    assert caught.value.code == "E_CHANGED"
    assert job(Whiteness(), records, tmp_path / "out", replace(other, overwrite=True)).ok == 7
    assert job(Whiteness(), records, tmp_path / "out", other).skipped == 7


def test_a_job_that_replaces_results_and_was_stopped_goes_on_where_it_was(records: list[Record], tmp_path: Path) -> None:
    job(Whiteness(), records, tmp_path / "out")
    other = replace(SETTINGS, identity="second", overwrite=True)
    answers: Iterator[bool] = iter([False, True])
    job(Whiteness(), records, tmp_path / "out", other, stop=lambda: next(answers))
    method = Whiteness()
    assert job(method, records, tmp_path / "out", other).skipped == 4
    assert method.sizes == [3]


def test_an_image_that_cannot_be_asked_any_more_fails_and_the_job_goes_on(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(Whiteness(), records, tmp_path / "out")
    real = job_report.sha256_of

    def sha256_of(path: Path) -> str:
        if path == records[2].image:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    for module in (bulk, job_report):
        monkeypatch.setattr(module, "sha256_of", sha256_of)
    summary = job(Whiteness(), records, tmp_path / "out")
    assert (summary.skipped, summary.failed, summary.reasons) == (6, 1, {"E_UNREADABLE": 1})
    records[3].image.unlink()
    assert job(Whiteness(), records, tmp_path / "out").reasons == {"E_UNREADABLE": 1, "E_NOT_FOUND": 1}


def test_a_disk_that_is_full_ends_the_job_and_keeps_what_was_done(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = bulk_outputs.write_npy, []

    def write_npy(path: Path, array: np.ndarray) -> None:
        if len(written) == 2:
            raise ResourceError("the disk is full", code="E_DISK_FULL", path=path)
        written.append(path)
        real(path, array)

    monkeypatch.setattr(bulk_outputs, "write_npy", write_npy)
    with pytest.raises(ResourceError):
        job(Whiteness(), records, tmp_path / "out")
    monkeypatch.setattr(bulk_outputs, "write_npy", real)
    assert job(Whiteness(), records, tmp_path / "out").skipped == 2


def test_a_folder_is_locked_by_one_and_free_once_he_is_done(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        with pytest.raises(ResourceError, match="is in use by process") as caught, locked(tmp_path / "out"):
            pass
        assert caught.value.code == "E_LOCKED"
    with locked(tmp_path / "out"):
        pass


def test_a_folder_that_cannot_be_made_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError) as caught, locked(tmp_path / "file" / "out"):
        pass
    assert caught.value.code == "E_OUTPUT"


def test_progress_is_told_of_every_image_done_or_not(records: list[Record], tmp_path: Path) -> None:
    records[1].image.write_bytes(b"")
    told: list[int] = []
    for _ in range(2):
        localize_all(
            Whiteness(),
            records,
            PreprocessConfig(image_size=SIDE),
            tmp_path / "out",
            SETTINGS,
            options=ReadOptions(),
            watch=told.append,
        )
    assert told == [0, 4, 3, 6, 1]
