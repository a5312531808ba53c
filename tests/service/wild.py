"""Inference requests of every wrong kind, from a seed: outputs' parameters, datatypes, shapes, sizes, sequences."""

import json
import random
import struct
from typing import Any

from tritonclient.grpc import service_pb2

GOOD = "Wall Street bears claw back into the black"
OUTPUTS = ("LABEL", "PROBABILITIES", "ANSWERED_BY", "WINDOWS", "MEMBER_PROBABILITIES")
DATATYPES = ("BOOL", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "FP16", "BF16", "FP32",
             "FP64", "BYTES", "STRING", "")  # fmt: skip
NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 64, 65, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1)
_FLAGS = ("sequence_start", "sequence_end", "binary_data_output", "binary_data", "triton_enable_empty_final_response")
_COUNTS = ("priority", "timeout", "sequence_id", "binary_data_size", "shared_memory_byte_size", "shared_memory_offset")
_NAMES = ("shared_memory_region", "sequence_id", "headers", "content_type")
_FIELDS = ("bool_contents", "int_contents", "int64_contents", "uint_contents", "uint64_contents", "fp32_contents",
           "fp64_contents", "bytes_contents")  # fmt: skip
_INPUTS = (*[["TEXT"]] * 6, ["TEXT", "QUALITY"], ["TEXT", "TEXT"], ["NOTHING"], [])
_SMALL = 65


class Wild:
    """Deals requests. `fatal` says whether there may be among them what is known to end Triton: classes of any output,
    and shapes of more than memory holds.
    """

    def __init__(self, seed: int, fatal: bool) -> None:
        self._dice, self._fatal = random.Random(seed), fatal

    def over_http(self) -> tuple[bytes, dict[str, str]]:
        """Return a body, and the headers to send with it."""
        head: dict[str, Any] = {
            "inputs": [],
            **self._maybe("id", self._value),
            **self._maybe("parameters", self._parameters),
        }
        binary = b""
        for name in self._dice.choice(_INPUTS):
            tensor, part = self._tensor(name)
            head["inputs"].append(tensor)
            binary += part
        if self._dice.random() < 0.7:
            head["outputs"] = [self._output() for _ in range(self._dice.randint(0, 3))]
        if self._dice.random() < 0.03:
            head["inputs"] = self._value()
        body = json.dumps(head).encode()
        headers = {}
        if binary or self._dice.random() < 0.2:
            lengths = [len(body)] * 40 + [
                0,
                -1,
                len(body) - 1,
                len(body) + 1,
                len(body + binary),
                2**31,
                2**64,
                "x",
                "",
            ]
            headers["Inference-Header-Content-Length"] = str(self._dice.choice(lengths))
        return self._damaged(body) + binary, headers

    def over_grpc(self) -> bytes:
        """Return a serialised ModelInferRequest."""
        request = service_pb2.ModelInferRequest(model_name="ag_news", id=self._dice.choice(("", "a", "x" * 300)))
        for name in self._dice.choice(_INPUTS):
            tensor = request.inputs.add(name=name, datatype=self._datatype(), shape=self._shape())
            self._fill(tensor.parameters)
            for _ in range(self._dice.choice((0,) * 9 + (1, 1, 2))):
                self._contents(tensor.contents)
        for _ in range(self._dice.choice((0, *[len(request.inputs)] * 9, 1, 3))):
            request.raw_input_contents.append(self._raw())
        for _ in range(self._dice.randint(0, 3)):
            self._fill(request.outputs.add(name=self._name()).parameters, output=True)
        self._fill(request.parameters)
        return self._damaged(request.SerializeToString())

    def _tensor(self, name: str) -> tuple[dict[str, Any], bytes]:
        tensor = {"name": name, "datatype": self._datatype(), "shape": self._shape()}
        parameters = self._parameters() if self._dice.random() < 0.1 else {}
        binary = b""
        if self._dice.random() < 0.5:
            binary = self._raw()
            size = len(binary) if self._dice.random() < 0.8 else self._dice.choice(NUMBERS)
            parameters["binary_data_size"] = size
        if not binary or self._dice.random() < 0.1:
            tensor["data"] = self._dice.choice(
                ([GOOD],) * 9 + ([GOOD, GOOD], [[GOOD]], [1], [1.5], [None], [], GOOD, [{}], 5)
            )
        return tensor | ({"parameters": parameters} if parameters else {}), binary

    def _output(self) -> dict[str, Any]:
        output: dict[str, Any] = {"name": self._name()}
        if self._dice.random() < 0.3:
            output["parameters"] = self._parameters(output=True)
        return output

    def _parameters(self, output: bool = False) -> dict[str, Any]:
        names = [*_FLAGS, *_COUNTS, *_NAMES] + ["classification"] * (6 if output and self._fatal else 0)
        chosen = self._dice.sample(names, self._dice.randint(1, 3))
        return {name: self._parameter(name) for name in chosen}

    def _parameter(self, name: str) -> Any:
        if self._dice.random() < 0.1:
            return self._value()
        if name in _FLAGS:
            return self._dice.random() < 0.5
        return self._dice.choice(("", "a", "/dev/shm", "x" * 300)) if name in _NAMES else self._dice.choice(NUMBERS)

    def _name(self) -> str:
        return self._dice.choice(OUTPUTS) if self._dice.random() < 0.95 else self._dice.choice(("NOTHING", ""))

    def _value(self) -> Any:
        return self._dice.choice((None, True, -1, 0, 1.5, 1e300, "", "a", [], [1], {}, {"a": 1}, [[[]]]))

    def _maybe(self, name: str, made: Any) -> dict[str, Any]:
        return {name: made()} if self._dice.random() < 0.3 else {}

    def _shape(self) -> list[int]:
        if self._dice.random() < 0.7:
            return [self._dice.choice((1, 1, 1, 2)), 1]
        numbers = NUMBERS if self._fatal else [number for number in NUMBERS if abs(number) <= _SMALL]
        return [self._dice.choice(numbers) for _ in range(self._dice.choice((0, 1, 2, 2, 2, 3)))]

    def _datatype(self) -> str:
        return "BYTES" if self._dice.random() < 0.85 else self._dice.choice(DATATYPES)

    def _raw(self) -> bytes:
        text = GOOD.encode()
        size = len(text) if self._dice.random() < 0.85 else self._dice.choice(NUMBERS) % 2**32
        return (struct.pack("<I", size) + text) * self._dice.choice(
            (0, 1, 1, 1, 1, 1, 1, 2)
        ) + b"x" * self._dice.choice((0, 0, 0, 1, 9))

    def _fill(self, parameters: Any, output: bool = False) -> None:
        if self._dice.random() < 0.75:
            return
        for name, value in self._parameters(output).items():
            if isinstance(value, bool):
                parameters[name].bool_param = value
            elif isinstance(value, int):
                parameters[name].int64_param = max(-(2**63), min(value, 2**63 - 1))
            elif isinstance(value, float):
                parameters[name].double_param = value
            else:
                parameters[name].string_param = str(value)

    def _contents(self, contents: Any) -> None:
        field = self._dice.choice(_FIELDS)
        values = [GOOD.encode()] if field == "bytes_contents" else [self._dice.choice((0, 1))]
        getattr(contents, field).extend(values * self._dice.choice((1, 1, 2, 64)))

    def _damaged(self, body: bytes) -> bytes:
        """Return the body, one of twenty with a byte changed, left out or put in."""
        if self._dice.random() > 0.05 or not body:
            return body
        place, byte = self._dice.randrange(len(body)), bytes([self._dice.randrange(256)])
        return body[:place] + self._dice.choice((byte, b"", byte * 2)) + body[place + 1 :]
