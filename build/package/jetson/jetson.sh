#!/bin/sh
# ./jetson build | check | serve | triton: see README.md. PYTHON names the interpreter, TRITON another tag of NVIDIA's image.
set -eu
cd "$(dirname "$0")"
case "${1:-}" in
build)
    shift
    exec "${PYTHON:-python3}" -m newsdesk.build.package.jetson.device "$@"
    ;;
triton)
    # The model's Python backend finds its code in this folder. TensorRT's libraries are the image's; the bindings match.
    exec docker run --rm --runtime nvidia --network host --shm-size 256m --volume "$PWD:/newsdesk:ro" \
        "nvcr.io/nvidia/tritonserver:${TRITON:-25.06-py3-igpu}" sh -c '
            pip install --quiet --requirement /newsdesk/requirements.txt "cuda-bindings<13" &&
            pip install --quiet --no-deps "tensorrt-cu12-bindings==${TENSORRT:-10.11.0.33}" &&
            exec tritonserver --model-repository /newsdesk/model_repository --disable-auto-complete-config'
    ;;
*) exec "${PYTHON:-python3}" -m newsdesk.server.standalone "$@" ;;
esac
