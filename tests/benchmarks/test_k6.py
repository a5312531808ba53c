"""k6's script, by the Node that Playwright brings, with stand-ins for k6's own modules: k6 itself is no package."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import playwright
import pytest

from benchmarks.locust.profiles import PROFILES

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "k6.js"
NODE = Path(playwright.__file__).parent / "driver" / "node"
K6 = """
export const checks = [];
export const check = (value, named) => { for (const one of Object.values(named)) checks.push(one(value)); };
export const sleep = () => {};
"""
HTTP = """
const answer = (status, body) => ({
  status, json: (path) => path.split(".").reduce((found, name) => found && found[name], body),
});
export const sent = [];
export default {
  get: () => answer(200, { labels: ["World", "Sports"] }),
  post: (url, body) => {
    sent.push([url, JSON.parse(body).text]);
    return answer(globalThis.status, { items: [globalThis.item] });
  },
};
"""
DRIVER = """
import { readFileSync } from "node:fs";
globalThis.__ENV = JSON.parse(process.argv[2]);
globalThis.open = (path) => readFileSync(path, "utf8");
const script = await import("./script.mjs");
const { checks } = await import("k6");
const { sent } = await import("k6/http");
const labels = script.setup();
for (const [status, label, shares] of JSON.parse(process.argv[3])) {
  globalThis.status = status;
  globalThis.item = { label, probabilities: shares };
  script.default(labels);
}
console.log(JSON.stringify({ options: script.options, checks, sent }));
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("k6")
    shutil.copy(SCRIPT, folder / "script.mjs")
    (folder / "driver.mjs").write_text(DRIVER)
    package = folder / "node_modules" / "k6"
    package.mkdir(parents=True)
    exported = {".": "./index.mjs", "./http": "./http.mjs"}
    (package / "package.json").write_text(json.dumps({"name": "k6", "exports": exported}))
    (package / "index.mjs").write_text(K6)
    (package / "http.mjs").write_text(HTTP)
    return folder


def ran(folder: Path, answers: list[Any], **variables: str) -> dict[str, Any]:
    command = [NODE, "driver.mjs", json.dumps(variables), json.dumps(answers)]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(process.stderr)
    return json.loads(process.stdout)


@pytest.mark.parametrize("profile", PROFILES)
def test_it_has_the_profiles_of_the_locustfiles(folder: Path, profile: str) -> None:
    options = ran(folder, [], PROFILE=profile, USERS="50", SECONDS="100", RATE="7", P99_MS="300")["options"]
    (scenario,) = options["scenarios"].values()
    assert options["thresholds"]["http_req_duration"] == ["p(99)<=300"]
    if profile == "open":
        assert (scenario["executor"], scenario["rate"]) == ("constant-arrival-rate", 7)
    elif profile == "steady":
        assert (scenario["vus"], scenario["duration"]) == (50, "100s")
    else:
        ends = [(stage["target"], stage["duration"]) for stage in scenario["stages"] if stage["duration"] != "0s"]
        last, expected = 0.0, []
        for stage in PROFILES[profile].stages:
            expected.append((round(stage.users * 50), f"{round((stage.until - last) * 100)}s"))
            last = stage.until
        assert ends == expected


def test_another_profile_is_refused(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="PROFILE is storm, expected one of steady, spike, soak, open"):
        ran(folder, [], PROFILE="storm")


def test_every_answer_is_checked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("Rain all day\n\n")
    answers = [
        (200, "World", {"World": 0.7, "Sports": 0.3}),
        (503, "World", {"World": 0.7, "Sports": 0.3}),
        (200, "Weather", {"World": 0.7, "Sports": 0.3}),
        (200, "World", {"World": 0.7, "Sports": 0.4}),
        (200, "Sports", {"World": 0.7, "Sports": 0.3}),
        (200, "World", {"World": 1.0}),
    ]
    checked = ran(folder, answers, TEXTS=str(tmp_path / "texts.txt"), HOST="http://gateway")
    assert checked["checks"] == [True, False, False, False, False, False]
    assert checked["sent"] == [["http://gateway/v1/classify", "Rain all day"]] * 6
