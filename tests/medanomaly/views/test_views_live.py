"""The live view shows what happens, and whatever happens to it changes nothing."""

from __future__ import annotations

import base64
import io
import json
import math
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from live_builders import Recorder, dead, hanging, live_server, panes_on, recording, until
from PIL import Image
from torch import Tensor
from toys import images, tiny_config, tiny_method

from medanomaly.errors import ConfigError
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.scoring.maps import difference_map
from medanomaly.types import AnomalyResult, WalkObserver
from medanomaly.views.live import LiveView, open_view
from medanomaly.views.live_panes import MAX_POINTS, Curves, History, Picture
from medanomaly.views.live_sender import CLOSE_S, server_of, visdom_client
from medanomaly.views.live_walk import MapScale, Walk, Watched

UNIT = "|x - pseudo-healthy|"
SCALE = MapScale(scale_max=0.5, unit=UNIT, forming=difference_map, forming_max=0.25, forming_unit=UNIT)
METHOD = tiny_method(tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=4)))
WARNING = "the run goes on without it"


def view_on(url: str, warnings: list[str], interval_s: float = 0.0) -> LiveView:
    view = open_view(url, warn=warnings.append, interval_s=interval_s, cpu_share=1000.0)
    assert view is not None
    return view


def picture_in(message: dict[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 of a picture's message."""
    kind, _, content = message["data"][0]["content"]["src"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return np.asarray(image.convert("RGB"))


def equal(one: AnomalyResult, other: AnomalyResult) -> bool:
    assert one.pseudo_healthy is not None
    assert other.pseudo_healthy is not None
    pairs = [(one.anomaly_map, other.anomaly_map), (one.score, other.score), (one.pseudo_healthy, other.pseudo_healthy)]
    return all(torch.equal(a, b) for a, b in pairs)


def drawn_after(held: threading.Event) -> Curves:
    """A pane that takes its time."""
    assert held.wait(60)
    return Curves(title="slow", lines={})


class Steps:
    """Says that it walks up and down, and answers at once; waits for each pane to be sent, so that none is replaced."""

    def __init__(self, recorder: Recorder, levels: tuple[int, ...] = (200, 400, 200, 0)) -> None:
        self.recorder, self.levels = recorder, levels

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        assert observer is not None
        for count, level in enumerate(self.levels, start=1):
            observer(level, x, 0.5 * x)
            until(lambda count=count: len(self.recorder.panes("walk")) == count)
        return AnomalyResult(anomaly_map=x.abs(), score=x.amax(dim=(1, 2, 3)), pseudo_healthy=0 * x)


def test_a_walk_is_shown_step_by_step_with_its_level_its_direction_and_the_scale_of_its_map() -> None:
    with recording() as recorder, view_on(recorder.url, []) as view:
        Watched(Steps(recorder), view, SCALE).localize(images(6))
        until(lambda: recorder.panes("finished"))
    titles = [message["opts"]["title"] for message in recorder.panes("walk")]
    assert titles == [
        "level 200, images 1-4 of 6; map 0 to 0.25",
        "encoding: level 400, images 1-4 of 6; map 0 to 0.25",
        "decoding: level 200 of 400, images 1-4 of 6; map 0 to 0.25",
        "decoding: level 0 of 400, images 1-4 of 6; map 0 to 0.25",
    ]
    assert recorder.panes("finished")[0]["opts"]["title"] == "finished: images 1-4 of 6; map 0 to 0.5"
    assert {path for path, _ in recorder.posts} == {"/events"}


def test_the_columns_are_the_input_x_t_the_predicted_x_0_and_once_decoding_the_pseudo_healthy_image_and_the_map() -> None:
    with recording() as recorder, view_on(recorder.url, []) as view:
        Watched(Steps(recorder), view, SCALE).localize(torch.full((1, 1, 16, 16), 1.0))
    first, *_, last = (picture_in(message) for message in recorder.panes("walk"))
    # A white image of 16 x 16 is shown eight times as large; its prediction is half of it, so the map exceeds its scale.
    side, top, left = 128, 22, first.shape[1] - 5 * 132 - 68
    centres = [left + index * 132 + side // 2 for index in range(5)]
    shown = [[tuple(int(value) for value in page[top + side // 2, x]) for x in centres] for page in (first, last)]
    assert np.abs(np.array(shown[0][:3]) - [[255] * 3, [255] * 3, [191] * 3]).max() < 6
    assert np.array(shown[0][3:]).max() < 40
    assert np.abs(np.array(shown[1][3:]) - [[191] * 3, [252, 255, 164]]).max() < 6


def test_watching_changes_no_bit_of_the_answer_wherever_it_is_sent() -> None:
    x = images(3)
    plain = METHOD.localize(x)
    with recording() as recorder, hanging() as silent:
        for url in (recorder.url, silent, dead()):
            with view_on(url, []) as view:
                assert equal(Watched(METHOD, view, SCALE).localize(x), plain)
        assert recorder.panes("finished")


def test_a_method_that_keeps_its_own_observer_still_tells_it_of_every_step() -> None:
    told: list[int] = []
    with recording() as recorder, view_on(recorder.url, [], interval_s=100) as view:
        Watched(METHOD, view, SCALE).localize(images(1), lambda level, _x_t, _x_0: told.append(level))
    assert told == [100, 200, 300, 400, 300, 200, 100, 0]
    assert len(recorder.panes("walk")) == 1


@pytest.mark.parametrize("kind", ["dead", "hanging"])
def test_a_server_that_is_down_or_hangs_costs_less_than_three_seconds_and_one_warning(kind: str) -> None:
    warnings: list[str] = []
    with hanging() as silent:
        begin = time.monotonic()
        with view_on(dead() if kind == "dead" else silent, warnings) as view:
            for step in range(50):
                view.scalars(step, {"loss": 1.0})
                Watched(METHOD, view, SCALE).localize(images(1))
                view.images("samples", step, images(1))
                if view.sender.given_up:
                    break
            begin_close = time.monotonic()
        assert time.monotonic() - begin_close < CLOSE_S + 0.5
        if kind == "dead":
            assert time.monotonic() - begin < 30
    assert [text for text in warnings if WARNING in text] == warnings
    assert len(warnings) == 1


def test_the_run_never_waits_for_a_server_that_hangs() -> None:
    with hanging() as silent:
        view = view_on(silent, [])
        begin = time.monotonic()
        for step in range(1000):
            view.scalars(step % 10, {"loss": 1.0})
        assert time.monotonic() - begin < 1.0
        begin = time.monotonic()
        view.close()
        assert time.monotonic() - begin < CLOSE_S + 0.5


def test_a_picture_that_takes_its_time_is_not_waited_for_at_the_end() -> None:
    warnings: list[str] = []
    held = threading.Event()
    with recording() as recorder:
        view = view_on(recorder.url, warnings)
        view.show("slow", lambda: lambda: drawn_after(held))
        begin = time.monotonic()
        view.close()
        assert time.monotonic() - begin < CLOSE_S + 0.5
        held.set()
    assert warnings == ["live view: too slow at the end of the run; " + WARNING]


def test_a_server_that_hangs_is_given_up_long_before_the_run_ends() -> None:
    warnings: list[str] = []
    with hanging() as silent:
        view = view_on(silent, warnings)
        view.scalars(0, {"loss": 1.0})
        until(lambda: view.sender.given_up)
        begin = time.monotonic()
        view.close()
        assert time.monotonic() - begin < 0.5
    assert warnings == [
        "live view: the Visdom server does not answer (ReadTimeout); start one with `medanomaly live`; " + WARNING
    ]


def test_a_server_that_dies_in_the_middle_ends_the_view_and_nothing_else() -> None:
    warnings: list[str] = []
    with live_server() as (url, process):
        view = view_on(url, warnings)
        view.scalars(0, {"loss": 1.0})
        until(lambda: "loss" in panes_on(url))
        process.kill()
        process.wait()
        view.scalars(1, {"loss": 0.5})
        until(lambda: view.sender.given_up)
        begin = time.monotonic()
        plain = METHOD.localize(images(2))
        assert equal(Watched(METHOD, view, SCALE).localize(images(2)), plain)
        view.close()
    assert len(warnings) == 1
    assert WARNING in warnings[0]
    assert time.monotonic() - begin < 30


def test_an_answer_of_an_error_is_no_success() -> None:
    warnings: list[str] = []
    with recording(status=500) as recorder, view_on(recorder.url, warnings) as view:
        view.scalars(0, {"loss": 1.0})
        until(lambda: view.sender.given_up)
        view.scalars(1, {"loss": 1.0})
    assert len(recorder.posts) == len(warnings) == 1


def fails(_x: Tensor, _x_0: Tensor) -> Tensor:
    raise ZeroDivisionError


@pytest.mark.parametrize("forming", [lambda x, _x_0: x[0, 0, 0], fails], ids=["in the thread", "in the run"])
def test_a_picture_that_cannot_be_made_ends_the_view_and_not_the_run(forming: Any) -> None:
    warnings: list[str] = []
    broken = MapScale(scale_max=1.0, unit=UNIT, forming=forming, forming_max=1.0, forming_unit=UNIT)
    with recording() as recorder, view_on(recorder.url, warnings) as view:
        result = Watched(METHOD, view, broken).localize(images(2))
    assert equal(result, METHOD.localize(images(2)))
    assert len(warnings) == 1


def test_a_real_server_holds_the_panes_of_a_localization_and_of_a_training() -> None:
    with live_server() as (url, _):
        with view_on(url, []) as view:
            Watched(METHOD, view, SCALE).localize(images(2))
            view.scalars(3, {"loss": 0.25, "learning_rate": 1e-3, "grad_norm": 2.0})
            view.images("samples", 3, images(1, channels=3))
        held = panes_on(url)
    assert set(held) == {"walk", "finished", "loss", "learning rate", "gradient norm", "samples"}
    assert held["walk"]["type"] == held["finished"]["type"] == held["samples"]["type"] == "image"
    assert held["samples"]["title"] == "samples, step 3"
    assert held["loss"]["content"]["data"][0]["y"] == [0.25]


def test_waiting_panes_are_replaced_and_the_newest_is_sent() -> None:
    held = threading.Event()
    with recording() as recorder:
        view = view_on(recorder.url, [])
        view.show("slow", lambda: lambda: drawn_after(held))
        for step in range(100):
            view.scalars(step, {"loss": float(step)})
        held.set()
        view.close()
    (loss,) = recorder.panes("loss")
    assert loss["data"][0]["y"] == [float(step) for step in range(100)]


def test_pictures_come_no_faster_than_the_interval() -> None:
    made: list[int] = []

    def counted(x: Tensor, x_0: Tensor) -> Tensor:
        made.append(1)
        return difference_map(x, x_0)

    scale = MapScale(scale_max=1.0, unit=UNIT, forming=counted, forming_max=1.0, forming_unit=UNIT)
    with recording() as recorder, view_on(recorder.url, [], interval_s=100) as view:
        watched = Watched(METHOD, view, scale)
        watched.localize(images(1))
        watched.localize(images(1))
    assert len(recorder.panes("walk")) == 1
    # The first step was shown; of the others nothing was even copied.
    assert made == []


def test_a_pane_that_takes_long_to_draw_comes_less_often() -> None:
    def burn() -> Curves:
        end_s = time.thread_time() + 0.05
        while time.thread_time() < end_s:
            pass
        return Curves(title="slow", lines={})

    with recording() as recorder:
        view = open_view(recorder.url, warn=print, interval_s=0.0, cpu_share=0.001)
        assert view is not None
        view.show("slow", lambda: burn)
        until(lambda: view.sender.resumes_cpu_s > 0)
        # 50 ms are a thousandth of 50 s.
        assert view.sender.resumes_cpu_s - time.process_time() > 40
        assert not view.sender.due("other")
        view.show("slow", lambda: lambda: Curves(title="last", lines={}))
        view.close()
    # What waits at the end is sent all the same.
    assert [message["opts"]["title"] for message in recorder.panes("slow")] == ["slow", "last"]


def test_what_is_copied_for_a_picture_does_not_change_with_the_tensor() -> None:
    x = torch.zeros(1, 3, 16, 16)
    held = threading.Event()
    with recording() as recorder:
        view = view_on(recorder.url, [])
        view.show("slow", lambda: lambda: drawn_after(held))
        view.images("samples", 0, x)
        x += 1
        held.set()
        view.close()
    assert np.abs(picture_in(recorder.panes("samples")[0]).astype(int) - 128).max() < 4


def test_images_that_are_not_finite_of_four_channels_or_huge_are_drawn() -> None:
    x = images(2, channels=4, side=600)
    x[0, 0, :300] = math.nan
    with recording() as recorder, view_on(recorder.url, []) as view:
        result = AnomalyResult(anomaly_map=x[:, :1].abs() * math.nan, score=torch.zeros(2))
        view.show("finished", lambda: Watched(METHOD, view, SCALE).finished(x, result))
    (message,) = recorder.panes("finished")
    assert max(picture_in(message).shape) < 700
    assert "channel 1 of 4 shown" in message["data"][0]["content"]["caption"]


def test_a_loss_that_is_not_finite_is_a_gap_and_the_axis_is_logarithmic_where_it_can_be() -> None:
    curves = Curves(title="loss", lines={"loss": ((0, 1.0), (1, math.nan), (2, math.inf), (3, 0.1))})
    message = curves.message()
    assert json.loads(json.dumps(message, allow_nan=False))["data"][0]["y"] == [1.0, None, None, 0.1]
    assert message["layout"]["yaxis"]["type"] == "log"
    assert Curves(title="", lines={"d_loss": ((0, -1.0),)}).message()["layout"]["yaxis"]["type"] == "linear"


def test_a_long_history_stays_small_and_keeps_its_first_and_last_point() -> None:
    history = History()
    for step in range(5 * MAX_POINTS):
        history.add(step, {"loss": float(step), "skipped": 0.0})
        assert history.panes["loss"]["loss"][-1] == (step, float(step))
    points = history.curves("loss").lines["loss"]
    assert MAX_POINTS / 2 <= len(points) <= MAX_POINTS
    assert (points[0], points[-1]) == ((0, 0.0), (5 * MAX_POINTS - 1, 5.0 * MAX_POINTS - 1))
    assert [step for step, _ in points] == sorted({step for step, _ in points})
    assert set(history.panes) == {"loss"}


def test_a_walk_knows_its_direction_from_the_second_step_on() -> None:
    walk, seen = Walk(), []
    for level in (200, 400, 200, 0, 300, 150):
        walk.reach(level)
        seen.append((walk.direction, walk.top))
    assert [direction for direction, _ in seen] == ["", "encoding", "decoding", "decoding", "", "decoding"]
    assert seen[-1][1] == 400


@pytest.mark.parametrize("url", ["localhost", "ftp://localhost", "http://", "http://user:secret@localhost", "http://localhost:a"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="address of a server"):
        server_of(url)


def test_an_address_may_leave_out_the_port() -> None:
    assert server_of("http://localhost") == ("http://localhost", 8097, "")
    assert server_of("https://[::1]:80/visdom/") == ("https://[::1]", 80, "/visdom")


def test_another_machine_is_named_in_a_warning() -> None:
    warnings: list[str] = []
    view = open_view("http://192.0.2.1:8097", warn=warnings.append)
    assert view is not None
    view.close()
    assert warnings == ["live view: images are sent to 192.0.2.1, where whoever reaches the server can see them"]


def test_without_visdom_there_is_a_warning_and_no_view(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setitem(sys.modules, "visdom", None)
    assert open_view(dead(), warn=warnings.append) is None
    assert len(warnings) == 1
    assert "pip install visdom" in warnings[0]


def test_no_proxy_gets_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    with recording() as proxy, recording() as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        visdom_client(server.url)._send({"win": "one", "data": []})
        assert len(server.posts) == 1
        assert not proxy.posts


def test_a_picture_says_its_size_and_title() -> None:
    message = Picture(pixels=np.zeros((30, 50, 3), np.uint8), title="t", caption="c").message()
    assert picture_in(message).shape == (30, 50, 3)
    assert (message["opts"]["title"], message["data"][0]["content"]["caption"]) == ("t", "c")


def test_messages_are_those_of_visdoms_own_client() -> None:
    client = visdom_client(dead())
    client.send = False
    picture = Picture(pixels=np.zeros((30, 50, 3), np.uint8), title="t", caption="c").message()
    options = {"title": "t", "caption": "c", "jpgquality": 90}
    theirs, endpoint = client.image(np.zeros((3, 30, 50), np.uint8), win="one", opts=dict(options))
    assert endpoint == "events"
    assert {"win", "eid", *picture} == set(theirs)
    assert picture["data"][0].keys() == theirs["data"][0].keys()
    assert picture["data"][0]["content"].keys() == theirs["data"][0]["content"].keys()
    assert picture["data"][0]["type"] == theirs["data"][0]["type"]
    curves = Curves(title="t", lines={"loss": ((0, 1.0), (1, 0.5))}).message()
    theirs, endpoint = client.line(Y=np.array([1.0, 0.5]), X=np.array([0, 1]), win="one", opts={"title": "t", "ytype": "log"})
    assert endpoint == "events"
    assert {"win", "eid", *curves} == set(theirs)
    assert curves["data"][0].keys() <= theirs["data"][0].keys()
    assert {name: curves["data"][0][name] for name in ("x", "y", "type")} == {
        name: theirs["data"][0][name] for name in ("x", "y", "type")
    }
    assert curves["layout"]["yaxis"]["type"] == theirs["layout"]["yaxis"]["type"]


def test_of_several_processes_one_has_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("RANK", rank)
        view = open_view(dead(), warn=lambda _text: None)
        if view is not None:
            opened.append(rank)
            view.close()
    assert opened == ["0"]
