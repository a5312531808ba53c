"""Roll-outs: a candidate is a version of a model that runs beside the current one until it is promoted or withdrawn.

A canary answers a share of the texts. A shadow computes, is compared, and answers nobody. Triton serves a candidate as
a model of its own: it has backend processes, a queue and a configuration of its own, and cannot take the current
version with it.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from newsdesk.server.contract import CANDIDATE

PROMOTE, WITHDRAW = "promote", "withdraw"
"""The wishes that a running server takes for a candidate."""
PROMOTED, WITHDRAWN = "promoted", "withdrawn"
STATUS = "trial.json"
"""The end of the name of the file in which a gateway says how a trial goes, in its server's run directory."""
_CANDIDATE = re.compile(r"(?:(?P<model>[\w-]+)=)?(?P<version>[1-9]\d*)(?::(?P<share>\d+(?:\.\d+)?)(?P<percent>%?))?")
CANARY_WORDS = 'a version and its share of texts, as "2:5%", or "topics=2:5%" where several models are served'
SHADOW_WORDS = 'a version, as "2", or "topics=2" where several models are served'


@dataclass(frozen=True)
class Candidate:
    """A version beside the current one. `share` is in (0, 1] for a canary, 0 for a shadow; model "" is the only one."""

    version: str
    share: float = 0.0
    model: str = ""
    alike: bool = True
    """Whether it has the members of the current version, in their order."""

    @property
    def kind(self) -> str:
        """Its kind: "canary" or "shadow"."""
        return "canary" if self.share else "shadow"

    def __str__(self) -> str:
        part = f"{100 * self.share:.4g} % of the texts" if self.share else "no text, and is compared"
        return f"version {self.version} of {self.model} is a {self.kind}: it answers {part}"

    @property
    def name(self) -> str:
        """The name that Triton serves it by."""
        return f"{self.model}{CANDIDATE}{self.version}"


def parse_canary(line: str) -> Candidate | None:
    """Return the candidate of "2:5%", "2:0.05" or "topics=2:5%"; None where the line is none."""
    parts = _CANDIDATE.fullmatch(line.strip())
    if not parts or not parts["share"]:
        return None
    share = float(parts["share"]) / (100 if parts["percent"] else 1)
    return Candidate(parts["version"], share, parts["model"] or "") if 0 < share <= 1 else None


def parse_shadow(line: str) -> Candidate | None:
    """Return the candidate of "2" or "topics=2"; None where the line is none."""
    parts = _CANDIDATE.fullmatch(line.strip())
    return Candidate(parts["version"], 0.0, parts["model"] or "") if parts and not parts["share"] else None


@dataclass(frozen=True)
class Rule:
    """The rule by which a candidate is withdrawn or promoted. Shares are in 0 to 1; each is over the last requests.

    Attributes:
        least: requests that it must have had before anything is decided
        errors: largest share of its requests that may fail, and more than of the current version's
        latency: how many times the current version's median it may take; of a canary alone
        disagreement: largest share of texts to which it may give another label; of a shadow alone
        drift: largest stability index of its labels' shares against the current version's; of a canary alone
        promote: requests after which it is promoted where it has kept to the rest; 0 leaves that to a command
    """

    least: int = 200
    errors: float = 0.01
    latency: float = 2.0
    disagreement: float = 0.1
    drift: float = 0.25
    promote: int = 0

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """Return the rule of "errors=2%,promote=5000", which leaves the rest as it is; None where the line is none."""
        rule = cls()
        kinds = {field.name: type(getattr(rule, field.name)) for field in fields(cls)}
        for part in filter(None, line.replace(" ", "").split(",")):
            name, _, value = part.partition("=")
            number = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", value)
            if name not in kinds or not number or (kinds[name] is int and not value.isdigit()):
                return None
            limit = float(number[1]) / (100 if number[2] else 1)
            rule = replace(rule, **{name: kinds[name](limit)})
        return rule if rule.least and max(rule.errors, rule.disagreement) <= 1 else None


RULE_WORDS = f'{", ".join(field.name for field in fields(Rule))}: as "errors=1%,latency=2,disagreement=10%"'


class TrialStatus(Struct, frozen=True, kw_only=True):
    """How a trial goes. Shares are in 0 to 1; each share and median is over the last requests."""

    model: str
    version: str
    kind: str
    """"canary" or "shadow"."""
    share: float
    """The share of the texts that the candidate answers."""
    current: str
    """The version that it is tried beside."""
    state: str
    """"tried", or what became of it."""
    requests: int
    failed_share: float
    median_ms: float
    current_requests: int
    current_failed_share: float
    current_median_ms: float
    texts_compared: int
    disagreement_share: float
    drift_index: float


def read_status(run: Path) -> list[TrialStatus]:
    """Return how the trials of the server with this run directory go."""
    records = []
    for file in sorted(run.glob(f"*.{STATUS}")):
        with suppress(OSError, msgspec.DecodeError):
            records.append(msgspec.json.decode(file.read_bytes(), type=TrialStatus))
    return records
