"""Hooks: every event is told once, and none of what can be wrong with them stops or delays a run."""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from ostcal import MasterFrameCreator
from ostcal.build.request import MadeMaster, Watcher
from ostcal.config import dump, load_config, without_endpoint
from ostcal.errors import ConfigError
from ostcal.events import hooks as hooks_module
from ostcal.events.event import Event, error_event, master_not_made
from ostcal.events.hooks import QUEUE_EVENTS, HookRules, Hooks
from ostcal.library.find import store_location
from ostcal.library.store import MasterStore
from ostcal.report.schema import event_schema
from support import night as n
from support.folders import ROOT
from support.hook_server import hook_server
from support.night import Night

ALL = frozenset({"series_finished", "master_made", "master_failed", "night_finished", "error"})
VALIDATOR = jsonschema_rs.validator_for(event_schema())
SECRET = "hidden-word"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses short, and reach servers of this computer without a proxy."""
    monkeypatch.setattr(hooks_module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("no_proxy", "*")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("ostcal.events") and r.levelno >= 30]


def event(number: int = 1) -> Event:
    return error_event("masters", [f"error {number}"], 1, "night.yaml")


def keeper(folder: Path, name: str = "keep.py", more: str = "") -> tuple[str, ...]:
    """Return a command that appends what it reads to a file, and its arguments to another."""
    script = folder / name
    script.write_text(
        f"import sys\nopen({str(folder / 'events')!r}, 'a').write(sys.stdin.read())\n"
        f"open({str(folder / 'arguments')!r}, 'a').write(repr(sys.argv[1:]))\n{more}",
        encoding="utf-8",
    )
    return (sys.executable, str(script))


def kept(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events"
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    for values in found:
        VALIDATOR.validate(values)
    return found


# ---- commands ----


def test_a_command_gets_each_event_on_its_standard_input_without_a_shell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = ("$(touch made)", "; touch made", "*")
    with Hooks(HookRules(on=ALL, command=(*keeper(tmp_path), *odd))) as hooks:
        for number in range(3):
            hooks.tell(event(number))
    assert [values["errors"] for values in kept(tmp_path)] == [["error 0"], ["error 1"], ["error 2"]]
    assert (tmp_path / "arguments").read_text(encoding="utf-8") == 3 * repr(list(odd))
    assert warnings(caplog) == []


def test_only_the_events_that_are_asked_for_are_told(tmp_path: Path) -> None:
    with Hooks(HookRules(on=frozenset({"master_failed"}), command=keeper(tmp_path))) as hooks:
        hooks.tell(event())
        hooks.tell(master_not_made("masters", "no frames"))
    assert [values["event"] for values in kept(tmp_path)] == ["master_failed"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("import time; time.sleep(600)", "did not end within"),
        ("import sys; sys.stderr.write('no route\\nmore'); sys.exit(3)", "ended with 3: no route"),
        ("import sys; sys.stderr.write('x' * (1 << 20)); sys.exit(1)", "ended with 1: xxx"),
        ("import sys; sys.stderr.write('http://u:hidden-word@h/?t=hidden-word'); sys.exit(1)", "ended with 1"),
    ],
)
def test_a_command_that_fails_is_one_line(
    tmp_path: Path, body: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    rules = HookRules(on=ALL, command=(sys.executable, "-c", body), timeout_s=2)
    with Hooks(rules) as hooks:
        hooks.tell(event())
    (line,) = warnings(caplog)
    assert word in line
    assert len(line) < 400
    assert SECRET not in line


def test_a_command_that_prints_megabytes_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    more = "sys.stdout.write('x' * (1 << 22)); sys.stderr.write('y' * (1 << 22))"
    with Hooks(HookRules(on=ALL, command=keeper(tmp_path, more=more))) as hooks:
        hooks.tell(event())
    assert len(kept(tmp_path)) == 1
    assert warnings(caplog) == []


def test_a_command_that_leaves_a_process_behind_does_not_hold_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)']); sys.exit(1)"
    with Hooks(HookRules(on=ALL, command=(sys.executable, "-c", body))) as hooks:
        hooks.tell(event())
    (line,) = warnings(caplog)
    assert "ended with 1" in line


def test_a_program_that_is_not_there_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with Hooks(HookRules(on=ALL, command=("/no/such/program",))) as hooks:
        for number in range(4):
            hooks.tell(event(number))
    first, rest = warnings(caplog)
    assert "program: error not delivered: it cannot be started: No such file or directory; see hooks.command" in first
    assert "3 events more not delivered" in rest


# ---- webhooks ----


def test_a_server_gets_each_event_as_json(caplog: pytest.LogCaptureFixture) -> None:
    with hook_server() as server, Hooks(HookRules(on=ALL, url=server.url)) as hooks:
        hooks.tell(event(1))
        hooks.tell(event(2))
    assert [values["errors"] for values in server.requests] == [["error 1"], ["error 2"]]
    assert {headers["Content-Type"] for headers in server.headers} == {"application/json"}
    for values in server.requests:
        VALIDATOR.validate(values)
    assert warnings(caplog) == []


def test_an_answer_of_500_is_tried_again_with_the_same_id(caplog: pytest.LogCaptureFixture) -> None:
    with hook_server([500, 503, 200]) as server, Hooks(HookRules(on=ALL, url=server.url)) as hooks:
        hooks.tell(event())
        hooks.close()
        assert len(server.requests) == 3
        assert len({values["id"] for values in server.requests}) == 1
    assert warnings(caplog) == []


def test_500_for_ever_is_one_line_and_a_number_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with hook_server([500]) as server:
        with Hooks(HookRules(on=ALL, url=server.url, retries=3)) as hooks:
            for number in range(5):
                hooks.tell(event(number))
        assert len(server.requests) == 4 + 4  # the first with its retries, then once each
    first, rest = warnings(caplog)
    assert re.fullmatch(r"hooks: http://127\.0\.0\.1:\d+: error not delivered: it answered 500 \(4 attempts\)", first)
    assert "4 events more not delivered" in rest


def test_a_server_that_comes_back_gets_the_events_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    with hook_server([500, 500, 200]) as server:
        with Hooks(HookRules(on=ALL, url=server.url, retries=1)) as hooks:
            for number in range(3):
                hooks.tell(event(number))
        assert [values["errors"][0] for values in server.requests] == ["error 0", "error 0", "error 1", "error 2"]
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(("code", "word"), [(404, "it answered 404"), (307, "redirects are not followed")])
def test_what_is_refused_is_not_tried_again(code: int, word: str, caplog: pytest.LogCaptureFixture) -> None:
    with hook_server([code]) as server:
        with Hooks(HookRules(on=ALL, url=server.url)) as hooks:
            hooks.tell(event())
        assert server.paths == ["/hook"]
    (line,) = warnings(caplog)
    assert word in line


def test_a_server_that_never_answers_is_left_after_the_timeout(caplog: pytest.LogCaptureFixture) -> None:
    with hook_server(waits=True) as server:
        with Hooks(HookRules(on=ALL, url=server.url, timeout_s=0.2, retries=1)) as hooks:
            hooks.tell(event())
        (line,) = warnings(caplog)
        assert re.search(r"no answer within 0.2 s \(hooks.timeout\) \(2 attempts\)|cannot be reached: timed out", line)


def test_a_name_server_that_hangs_is_left_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        release.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with Hooks(HookRules(on=ALL, url="http://hooks.invalid/x", timeout_s=0.2, retries=1)) as hooks:
        hooks.tell(event())
    release.set()
    (line,) = warnings(caplog)
    assert "http://hooks.invalid: error not delivered: no answer within 0.2 s" in line


def test_nothing_listens(caplog: pytest.LogCaptureFixture) -> None:
    with hook_server() as server:
        url = server.url
    with Hooks(HookRules(on=ALL, url=url, retries=1)) as hooks:
        hooks.tell(event())
    (line,) = warnings(caplog)
    assert "cannot be reached: Connection refused (2 attempts)" in line


# ---- never waiting ----


def test_telling_never_waits_and_what_does_not_fit_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    told = QUEUE_EVENTS + 50
    with hook_server(waits=True) as server:
        hooks = Hooks(HookRules(on=ALL, url=server.url, timeout_s=30, retries=0))
        for number in range(told):  # the first of them is not answered
            hooks.tell(event(number))
        hooks.close(patience_s=0.1)
        assert len(server.requests) <= 1
    (line,) = warnings(caplog)
    (count,) = re.findall(r"hooks: (\d+) events not delivered within 0 s at the end", line)
    assert told - 1 <= int(count) <= told


def test_a_command_and_a_server_are_both_told_whatever_the_other_does(tmp_path: Path) -> None:
    with hook_server([500]) as server:
        rules = HookRules(on=ALL, command=keeper(tmp_path), url=server.url, retries=1)
        with Hooks(rules) as hooks:
            for number in range(3):
                hooks.tell(event(number))
        assert len(kept(tmp_path)) == 3
        assert len(server.requests) == 2 + 2


# ---- secrets ----


def test_no_secret_is_in_lines_or_documents(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ostcal")
    with hook_server([403]) as server:
        url = f"http://me:{SECRET}@127.0.0.1:{server.port}/{SECRET}?token={SECRET}"
        with Hooks(HookRules(on=ALL, url=url)) as hooks:
            hooks.tell(event())
        assert server.headers[0]["Authorization"].startswith("Basic ")
        assert server.paths == [f"/{SECRET}?token={SECRET}"]
    assert len(warnings(caplog)) == 1
    assert SECRET not in caplog.text
    config = load_config({"hooks": {"url": url, "command": ["notify", "--token", SECRET]}})
    assert SECRET in dump(config)
    assert SECRET not in dump(without_endpoint(config))


@pytest.mark.parametrize(
    "section",
    [
        {"url": f"ftp://me:{SECRET}@host/{SECRET}"},
        {"url": f"hooks.example/{SECRET}"},
        {"command": f"notify --token {SECRET}"},
        {"command": ["notify", f"--token={SECRET}\n"]},
    ],
)
def test_a_wrong_value_is_named_without_the_secret(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"hooks": section})
    assert f"hooks.{next(iter(section))}: this value is not allowed" in str(caught.value)
    assert SECRET not in str(caught.value)


# ---- the configuration ----


def test_the_section_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("hooks: {on: [error, master_failed], command: [notify, 5], timeout: 3}\n", encoding="utf-8")
    hooks = load_config(path).hooks
    assert (hooks.on, hooks.command, hooks.timeout) == (("error", "master_failed"), ("notify", "5"), 3.0)
    assert load_config({"hooks": {"on": "error"}}).hooks.on == ("error",)
    with pytest.raises(ConfigError, match="series_finished, master_made"):
        load_config({"hooks": {"on": ["exposure"]}})


# ---- commands of ostcal ----


def with_hooks(night: Night, folder: Path, **section: Any) -> Path:
    path = n.write_config(night)
    values = json.loads(path.read_text(encoding="utf-8"))
    values["hooks"] = {"command": list(keeper(folder)), **section}
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_masters_that_are_made_are_told_once(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path / "night")
    config = with_hooks(night, tmp_path)
    assert n.ostcal("masters", "--config", config, "--no-confirm").exit_code == 0
    found = kept(tmp_path)
    assert {values["event"] for values in found} == {"master_made"}
    made = [(values["masters"][0]["kind"], values["masters"][0]["exposure_time_s"]) for values in found]
    assert sorted(made) == [("bias", 0.001), ("dark", 2.0), ("dark", 5.0), ("flat", 2.0)]
    assert made.index(("flat", 2.0)) > made.index(("dark", 2.0))  # in the order in which they are published
    for values in found:
        assert Path(values["masters"][0]["files"][0]).is_file()
    assert n.ostcal("masters", "--config", config, "--no-confirm").exit_code == 0
    assert len(kept(tmp_path)) == len(found)  # nothing is made, nothing is told


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_master_is_told_when_it_is_published_and_the_flat_that_needs_it_is_not_there_yet(
    tmp_path: Path, scheduler: str
) -> None:
    night = n.whole_night(tmp_path / "night")
    store = MasterStore(store_location(str(night.masters)))
    seen: list[tuple[str, tuple[str, ...]]] = []

    def published(master: MadeMaster) -> None:
        assert Path(master.files[0][1]).is_file()
        seen.append((master.name, tuple(store.names())))

    config = night.config(compute={"scheduler": scheduler})
    creator = MasterFrameCreator(config, watcher=Watcher(published=published))
    assert not creator.create_all_master_frames().is_error
    names = [name for name, _ in seen]
    assert len(names) == len(set(names)) == 4
    assert all(name in there for name, there in seen)
    there_with_dark = next(there for name, there in seen if name.startswith("master_dark_2.000s"))
    assert not any(name.startswith("master_flat") for name in there_with_dark)


def test_of_a_run_that_is_killed_one_hears_what_it_made(tmp_path: Path) -> None:
    """The run ends at the first master it tells of: what was told is on disk, and the flat was not made."""
    night = n.whole_night(tmp_path / "night")
    told: list[str] = []

    def published(master: MadeMaster) -> None:
        told.append(master.name)
        if master.name.startswith("master_dark_2.000s"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MasterFrameCreator(night.config(), watcher=Watcher(published=published)).create_all_master_frames()
    there = MasterStore(store_location(str(night.masters))).names()
    assert set(told) <= set(there)
    assert not any(name.startswith("master_flat") for name in there)


def test_masters_that_cannot_be_made_are_told_once_each(tmp_path: Path) -> None:
    night = Night(tmp_path / "night")
    n.write_flats(night, 2.0)
    n.write_flats(night, 4.0)
    failed: list[str] = []
    status = MasterFrameCreator(night.config(), watcher=Watcher(failed=failed.append)).create_all_master_frames()
    assert failed == status.details["errors"]
    assert len(failed) == 2
    config = with_hooks(night, tmp_path)
    assert n.ostcal("masters", "--config", config, "--no-confirm").exit_code == 1
    assert [one["event"] for one in kept(tmp_path)] == ["master_failed", "master_failed", "error"]


def test_a_command_that_fails_tells_why(tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    config = with_hooks(Night(tmp_path / "night"), tmp_path)
    assert n.ostcal("masters", "--config", config, "--no-confirm").exit_code == 1
    (values,) = kept(tmp_path)
    assert (values["event"], values["exit_code"]) == ("error", 1)
    assert "No input files found" in values["errors"][0]


def test_a_hook_that_fails_is_a_warning_in_the_document_and_no_failure(tmp_path: Path) -> None:
    night = n.whole_night(tmp_path / "night")
    with hook_server([404]) as server:
        config = with_hooks(night, tmp_path, url=f"http://me:{SECRET}@127.0.0.1:{server.port}/{SECRET}")
        outcome = n.ostcal("masters", "--config", config, "--no-confirm", "--json")
    values = json.loads(outcome.stdout)
    assert (outcome.exit_code, values["ending"]) == (0, "warning")
    assert any("it answered 404" in line for line in values["warnings"])
    assert SECRET not in outcome.text
    assert len(kept(tmp_path)) == 4
    report = Path(values["report"]["json"]).read_text(encoding="utf-8")
    assert SECRET not in report
    assert SECRET not in Path(values["log_file"]).read_text(encoding="utf-8")


def test_a_night_goes_on_while_a_hook_hangs(tmp_path: Path) -> None:
    with hook_server(waits=True) as server:
        config = {
            "video": {"camera_type": "simulator", "simulator": {"time_scale": 400}},
            "dark_capture": {"output_dir": str(tmp_path / "darks"), "num_darks": 3, "exposure_factors": [1.0]},
            "flat_capture": {"output_dir": str(tmp_path / "flats"), "num_flats": 3},
            "master_frames": {"output_dir": str(tmp_path / "masters")},
            "compute": {"workers": 1},
            "workflow": {"masters_while_exposing": False},
            "hooks": {"command": list(keeper(tmp_path)), "url": server.url, "timeout": 0.5, "retries": 0},
        }
        path = tmp_path / "night.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        outcome = n.ostcal("workflow", "--config", path, "--no-confirm", "--json")
    assert outcome.exit_code in (0, 3), outcome.stderr
    document = json.loads(outcome.stdout)
    found = kept(tmp_path)
    ended = [values["series"][0]["location"] for values in found if values["event"] == "series_finished"]
    assert set(ended) == {series["location"] for series in document["series"]}
    (night,) = [values for values in found if values["event"] == "night_finished"]
    assert night == found[-1]
    assert {master["name"] for master in night["masters"]} == {master["name"] for master in document["masters"]}
    assert all(Path(series["location"]).is_dir() for series in night["series"])
    assert any("no answer within 0.5 s" in line or "timed out" in line for line in document["warnings"])


def test_the_documentation_shows_the_schema_of_events() -> None:
    text = (ROOT / "docs" / "automation.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```json events\n(.*?)```", text, re.DOTALL)
    assert json.loads(shown) == event_schema(), "write the block anew with ostcal.report.schema.event_schema()"
    assert jsonschema_rs.meta.is_valid(event_schema())
