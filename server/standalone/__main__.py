"""check and serve a model repository without Triton: `python3 -m newsdesk.server.standalone serve`."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the tokenizer's import

from newsdesk.server.runtime import golden, manifest
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.runtime.repository import find_version

PORT = 8000


def main(arguments: list[str] | None = None) -> int:
    """Run a command, and return the exit code: 0, 1 where a check is not passed, 2 where nothing could be run."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except ServerError as error:
        print(f"newsdesk: {error}", file=sys.stderr)
        return 2


def check(options: argparse.Namespace) -> int:
    """Compare this machine's answers with the golden ones, and print how near each comes."""
    version = find_version(options.model_repository)
    passed = True
    print(f"{'engine':40} {'largest':>9} {'limit':>7} {'same label':>11} {'texts/s':>8}")
    for result in golden.Golden.load(options.golden).check(version, manifest.load(version), options.target):
        passed &= result.passed
        line = f"{result.name:40} {result.largest:9.5f} {result.limit:7.3f} {result.agreement:11.1%}"
        print(f"{line} {result.per_second:8.0f}" + ("" if result.passed else "  NOT PASSED"), flush=True)
    return 0 if passed else 1


def serve(options: argparse.Namespace) -> int:
    """Answer until SIGINT or SIGTERM."""
    from newsdesk.server.standalone.web import Server

    version = find_version(options.model_repository)
    loaded = manifest.load(version)
    classifier = Classifier(loaded, version, options.target, options.threads, options.unsure_share)
    classifier.warm_up()
    classifier.classify(["Wall Street bears claw back into the black"])  # what cannot answer does not listen
    try:
        server = Server((options.host, options.port), classifier, loaded.name, version.name)
    except OSError as error:
        raise ServerError(f"{options.host}:{options.port}: {error.strerror}. Choose another with --port.") from error
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"newsdesk answers on http://{options.host}:{options.port}/v2/models/{loaded.name}/infer", flush=True)
    server.serve_forever()
    server.server_close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m newsdesk.server.standalone")
    commands = parser.add_subparsers(required=True, metavar="check|serve")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model-repository", type=Path, default=Path("model_repository"))
    common.add_argument("--target", default="", help='as "onnxruntime:int8"; default: what the manifest says')
    checking = commands.add_parser("check", parents=[common], help=check.__doc__)
    checking.add_argument("--golden", type=Path, default=Path("golden"), help="folder of the golden answers")
    checking.set_defaults(run=check)
    serving = commands.add_parser("serve", parents=[common], help=serve.__doc__)
    serving.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for every address; nobody is asked for a key")
    serving.add_argument("--port", type=int, default=PORT)
    serving.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of an engine on the processor")
    serving.add_argument(
        "--unsure-share", type=float, help="of in-domain texts, 0 to 0.2, that are marked; default: the manifest's"
    )
    serving.set_defaults(run=serve)
    return parser


if __name__ == "__main__":
    sys.exit(main())
