"""``medanomaly live`` and ``--visdom``: a page for this machine alone, and runs that are the same with it and without."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_builders import TINY_TRAINING, localize, picture, report_lines, tiny_checkpoint, write_labelled, write_png
from headless_browser import CHROMIUM, page_with
from live_builders import PATIENCE_S, ROOT, dead, hanging, live_server, panes_on, recording, until
from PIL import Image
from safetensors.torch import load_file
from toys import images, tiny_config, tiny_method

from medanomaly.cli.live import with_address
from medanomaly.cli.main import main
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.scoring.maps import difference_map
from medanomaly.views.live import open_view
from medanomaly.views.live_walk import MapScale, Watched


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One server for the tests that do not end it: it takes seconds to start."""
    with live_server() as (url, _):
        yield url


def ask(url: str, *, data: dict[str, Any] | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """(status, headers, text) of a request; POST where there is data."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            return reply.status, dict(reply.headers), reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}, ""


def files_of(out: Path) -> dict[str, bytes]:
    """Every file of a job but those that say when it ran and how long."""
    timed = {"report.jsonl", "run.json", ".lock"}
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name not in timed}


def untimed(out: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in report_lines(out)]


def secret_folder(root: Path) -> Path:
    """Three images in a folder whose names would identify a person."""
    for index in range(3):
        write_png(root / "CANARY-hospital" / f"CANARY-patient-{index}.png", picture(index))
    return root / "CANARY-hospital"


def test_a_watched_localization_writes_the_same_bytes_and_sends_no_name(tmp_path: Path) -> None:
    source = secret_folder(tmp_path)
    trained = tiny_checkpoint(tmp_path / "CANARY-weights")
    assert localize(trained, source, tmp_path / "plain") == 0
    with recording() as recorder:
        assert localize(trained, source, tmp_path / "CANARY-out", "--visdom", recorder.url) == 0
    assert files_of(tmp_path / "CANARY-out") == files_of(tmp_path / "plain")
    assert untimed(tmp_path / "CANARY-out") == untimed(tmp_path / "plain")
    assert recorder.panes("walk")
    assert recorder.panes("finished")[-1]["opts"]["title"] == "finished: images 1-3 of 3; map 0 to 1.2"
    assert [word for word in ("CANARY", tmp_path.name, "patient") if word in recorder.text()] == []
    # Nor in a picture: JPEG with its size and tables, and no other segment such as a comment.
    for _, message in recorder.posts:
        content = base64.b64decode(message["data"][0]["content"]["src"].partition(",")[2])
        with Image.open(io.BytesIO(content)) as image:
            assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


@pytest.mark.parametrize("kind", ["dead", "hanging"])
def test_a_localization_with_no_server_at_the_other_end_is_the_same_and_says_so_once(
    kind: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = secret_folder(tmp_path)
    assert localize(checkpoint, source, tmp_path / "plain") == 0
    with hanging() as silent:
        assert localize(checkpoint, source, tmp_path / "out", "--visdom", silent if kind == "hanging" else dead()) == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "plain")
    assert capsys.readouterr().err.count("the run goes on without it") == 1


def test_without_the_option_visdom_is_not_imported(checkpoint: Path, tmp_path: Path) -> None:
    image = write_png(tmp_path / "one.png", picture(0))
    words = ["localize", str(checkpoint), str(image), str(tmp_path / "out"), "--device", "cpu", "--quiet", "true"]
    code = f"import sys; from medanomaly.cli.main import main; assert main({words}) == 0; print('visdom' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=PATIENCE_S * 4)
    assert done.stdout.splitlines()[-1:] == ["False"], done.stderr


def test_an_address_that_is_none_is_a_usage_error(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_png(tmp_path / "one.png", picture(0))
    assert localize(checkpoint, image, tmp_path / "out", "--visdom", "8097") == 2
    assert "write e.g. --visdom http://127.0.0.1:8097" in capsys.readouterr().err


def test_a_watched_training_makes_the_same_weights_and_log_and_shows_curves_and_samples(tmp_path: Path) -> None:
    rows = [(f"{split}{label[0]}", label, split) for split in ("train", "val") for label in ("healthy", "diseased")]
    manifest = write_labelled(tmp_path, rows)
    base = ["train", "phantom64-cfg", "--data", str(manifest), *TINY_TRAINING, "--training.validate-every", "2"]
    assert main([*base, "--out", str(tmp_path / "plain")]) == 0
    with recording() as recorder:
        assert main([*base, "--out", str(tmp_path / "seen"), "--visdom", recorder.url]) == 0
    for name in ("log.jsonl", "config.json", "status.json"):
        assert (tmp_path / "seen" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    plain, seen = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "seen"))
    assert plain.keys() == seen.keys()
    assert all(torch.equal(plain[name], seen[name]) for name in plain)
    states = [torch.load(tmp_path / name / "train_state.pt", weights_only=True) for name in ("plain", "seen")]
    assert states[0]["recipe"].keys() == states[1]["recipe"].keys()
    lines = {trace["name"]: trace["x"] for trace in recorder.panes("loss")[-1]["data"]}
    assert lines == {"loss": [0, 1, 2], "val_loss": [1, 2]}
    assert recorder.panes("learning rate")[-1]["data"][0]["x"] == [0, 1, 2]
    assert recorder.panes("samples, map 0 to 1")[-1]["opts"]["title"] == "samples, map 0 to 1, step 2"
    assert not any(word in recorder.text() for word in (str(tmp_path), ".png", "trainh", "vald"))


def test_a_training_whose_server_dies_in_the_middle_makes_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{split}{label[0]}", label, split) for split in ("train", "val") for label in ("healthy", "diseased")]
    base = ["train", "phantom64-cfg", "--data", str(write_labelled(tmp_path, rows)), *TINY_TRAINING]
    assert main([*base, "--out", str(tmp_path / "plain")]) == 0
    with recording(dies_after=1) as recorder:
        assert main([*base, "--out", str(tmp_path / "seen"), "--visdom", recorder.url]) == 0
    assert len(recorder.posts) == 1
    assert capsys.readouterr().err.count("the run goes on without it") == 1
    plain, seen = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "seen"))
    assert all(torch.equal(plain[name], seen[name]) for name in plain)
    assert (tmp_path / "seen" / "log.jsonl").read_bytes() == (tmp_path / "plain" / "log.jsonl").read_bytes()


def test_the_option_without_an_address_means_the_live_server_of_this_machine() -> None:
    default = "--visdom=http://127.0.0.1:8097"
    assert with_address(["a", "--visdom"]) == ["a", default]
    assert with_address(["--visdom", "--quiet", "true"]) == [default, "--quiet", "true"]
    assert with_address(["--visdom", "http://h:1", "--quiet"]) == ["--visdom", "http://h:1", "--quiet"]
    assert with_address([]) == []


def test_the_server_listens_on_the_loopback_address_alone(server: str) -> None:
    port = f"{int(server.rpartition(':')[2]):04X}"
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    addresses = [line.split()[1] for table in tables for line in table if line.split()[3] == "0A"]
    assert [address for address in addresses if address.endswith(f":{port}")] == [f"0100007F:{port}"]


@pytest.mark.parametrize("path", ["/", "/live.js", "/live.css"])
def test_the_page_and_its_files_come_from_the_server_and_may_load_nothing_else(path: str, server: str) -> None:
    status, headers, text = ask(server + path)
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "https://" not in text
    assert text.count("http://") == text.count("http://www.w3.org/2000/svg")


def test_other_sites_and_what_writes_files_are_refused(server: str) -> None:
    port = server.rpartition(":")[2]
    assert ask(server, Host="attacker.example")[0] == 403
    assert ask(server, Host=f"attacker.example:{port}")[0] == 403
    assert ask(f"{server}/win_data", data={"win": None}, Origin="http://attacker.example")[0] == 403
    assert ask(f"{server}/events", data={}, Origin="null")[0] == 403
    for path in ("/delete_env", "/save", "/fork_env", "/env_state"):
        assert ask(server + path, data={"eid": "main", "data": []})[0] == 403
    assert ask(f"{server}/env/main")[0] == 403
    assert ask(f"{server}/win_data", data={"win": None}, Origin=server)[0] == 200
    assert ask(f"http://localhost:{port}/win_data", data={"win": None}, Origin=f"http://localhost:{port}")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_leaves_no_file(number: signal.Signals, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with live_server() as (url, process):
        ask(f"{url}/events", data={"win": "one", "eid": "main", "data": [{"type": "text", "content": "x"}]})
        assert [path.name[:16] for path in tmp_path.iterdir()] == ["medanomaly-live-"]
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_said_and_a_port_that_is_none_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["live", "--port", str(port)]) == 6
    err = capsys.readouterr().err
    assert f"port {port} cannot be used (Address already in use) [E_PORT]; choose another with --port" in err
    assert main(["live", "--port", "70000"]) == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_panes_of_a_running_localization(server: str, tmp_path: Path) -> None:
    method = tiny_method(tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=4)))
    unit = "|x - pseudo-healthy|"
    scale = MapScale(scale_max=0.5, unit=unit, forming=difference_map, forming_max=0.5, forming_unit=unit)
    seen: list[str] = []
    levels: list[int] = []
    view = open_view(server, warn=seen.append, interval_s=0.0, cpu_share=1000.0)
    assert view is not None
    with view:

        def look(level: int, _x_t: torch.Tensor, _x_0: torch.Tensor) -> None:
            levels.append(level)
            if levels == [100, 200, 300, 400, 300, 200]:
                # The walk stands still while the browser looks.
                until(lambda: "level 200 of 400" in panes_on(server).get("walk", {}).get("title", ""))
                seen.append(page_with(server, "level 200 of 400", tmp_path / "live.png"))

        view.scalars(0, {"loss": 1.0})
        view.scalars(1, {"loss": 0.1, "val_loss": 0.2})
        until(lambda: len(panes_on(server).get("loss", {}).get("content", {}).get("data", [])) == 2)
        Watched(method, view, scale).localize(images(2), look)
    (page,) = seen
    assert "decoding: level 200 of 400, images 1-2 of 2; map 0 to 0.5" in page
    assert "data:image/jpeg;base64" in page
    assert page.count("<circle") == 3
    assert "logarithmic" in page
    assert (tmp_path / "live.png").stat().st_size > 10_000
