"""The stand-in: the served contract without weights. Runs inside Triton's Python backend."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from newsdesk.server.runtime import lifeline

LABELS = ("World", "Sports", "Business", "Sci/Tech")
MEMBERS_ASKED = {b"fast": 1, b"balanced": 1, b"best": None}
WINDOW_CHARACTERS = 1000
KEYWORDS = {"treaty": 0, "match": 1, "shares": 2, "chip": 3}
SIZE_LIMIT = 256 * 1024
SHOWN = 16
HELD_SECONDS = 60  # where a test that failed releases nothing


class TritonPythonModel:
    def initialize(self, args):
        lifeline.hold()  # as the model does: texts below end the server
        self.members = json.loads(args["model_config"])["parameters"]["members"]["string_value"].split(",")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        raw = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
        reasons = {index: reason for index, text in enumerate(raw) if (reason := refusal(text))}
        if reasons:
            listed = [f"text {index}: {reason}" for index, reason in reasons.items()]
            more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
            message = f"newsdesk refused {len(listed)} of {len(raw)} texts. {'; '.join(listed[:SHOWN])}{more}"
            return pb_utils.InferenceResponse([], pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
        tensor = pb_utils.get_input_tensor_by_name(request, "QUALITY")
        qualities = [b"balanced"] * len(raw) if tensor is None else tensor.as_numpy().reshape(-1).tolist()
        wrong = [quality for quality in qualities if quality not in MEMBERS_ASKED]
        if wrong:
            message = f"QUALITY is {wrong[0]!r}, expected one of fast, balanced, best"
            return pb_utils.InferenceResponse([], pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
        asked = [self.members[: MEMBERS_ASKED[quality]] for quality in qualities]
        texts = [text.decode() for text in raw]
        for text in texts:
            if "stand-in, end " in text:  # the backend process, or the server above it
                os.kill(os.getppid() if "the server" in text else os.getpid(), signal.SIGKILL)
        for text in texts:
            if "stand-in, hold " in text:
                hold(named(text, "hold "))
            if "stand-in, stall at " in text:
                stall(named(text, "stall at "))
        if any("stand-in, fail" in text for text in texts):
            return pb_utils.InferenceResponse([], pb_utils.TritonError("the stand-in was told to fail"))
        probabilities = np.stack([row(text) for text in texts])
        labels = [LABELS[best].encode() for best in probabilities.argmax(axis=1)]
        levels = ["+".join(names).encode() for names in asked]
        windows = [1 + len(text) // WINDOW_CHARACTERS for text in texts]
        outputs = [
            pb_utils.Tensor("LABEL", np.array(labels, dtype=object).reshape(-1, 1)),
            pb_utils.Tensor("PROBABILITIES", probabilities),
            pb_utils.Tensor("ANSWERED_BY", np.array(levels, dtype=object).reshape(-1, 1)),
            pb_utils.Tensor("WINDOWS", np.array(windows, dtype=np.int32).reshape(-1, 1)),
        ]
        if "MEMBER_PROBABILITIES" in request.requested_output_names():
            outputs.append(pb_utils.Tensor("MEMBER_PROBABILITIES", self.by_member(probabilities, asked)))
        if "UNCERTAINTY" in request.requested_output_names():
            outputs.append(pb_utils.Tensor("UNCERTAINTY", np.tile(np.float32([0.75, 0.5, 0.25]), (len(texts), 1))))
        if "UNSURE" in request.requested_output_names():
            doubtful = np.array([["lol" in text] for text in texts])
            outputs.append(pb_utils.Tensor("UNSURE", doubtful))
        return pb_utils.InferenceResponse(outputs)

    def by_member(self, probabilities, asked):
        """FP32 [N, M, 4]: the first member says what is answered, the others an even share; -1 where not asked."""
        rows = np.full((len(asked), len(self.members), len(LABELS)), -1, np.float32)
        for row, answer, names in zip(rows, probabilities, asked, strict=True):
            row[: len(names)] = 1 / len(LABELS)
            row[0] = answer
        return rows


def named(text, word):
    """Return the folder that stands behind the word."""
    return Path(text.partition(f"stand-in, {word}")[2].split(" ")[0])


def hold(folder):
    """Show in a folder that this process computes, and do so until there is a file "released"."""
    (folder / f"computing-{os.getpid()}").touch()
    end = time.monotonic() + HELD_SECONDS
    while not (folder / "released").exists() and time.monotonic() < end:
        time.sleep(0.005)


def stall(folder):
    """Hold, the first time that a folder is named; the next process that is asked answers at once."""
    with contextlib.suppress(FileExistsError):
        (folder / "stalled").touch(exist_ok=False)
        hold(folder)


def refusal(text):
    if len(text) > SIZE_LIMIT:
        return f"{len(text)} bytes, expected at most {SIZE_LIMIT}, send a shorter text"
    try:
        if not text.decode().strip():
            return "empty, expected at least one visible character"
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start} is 0x{text[error.start]:02x}), send UTF-8"
    return None


def row(text):
    """FP32 [4]: 0.7 for the class of the first keyword found (Sci/Tech without one), the rest falling with distance.

    A number in the text moves a little of it, so that each text has an answer of its own.
    """
    best = next((label for word, label in KEYWORDS.items() if word in text), 3)
    digits = "".join(filter(str.isdecimal, text[:200]))
    share = 0.6 + 0.3 * (int(digits[-6:] or 0) % 10_000) / 10_000
    probabilities = np.array([1.0 / (2 + (place - best) % 4) for place in range(4)])
    probabilities[best] = 0
    probabilities *= (1 - share) / probabilities.sum()
    probabilities[best] = share
    return probabilities.astype(np.float32)
