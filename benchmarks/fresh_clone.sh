#!/usr/bin/env bash
# What a fresh clone costs: `make serve` until its first answer, then `make test`; seconds, downloads, installed size.
# Usage: benchmarks/fresh_clone.sh [python3.11]     Committed files only. Nothing is left behind.
set -euo pipefail
python=${1:-python3}
repository=$(git rev-parse --show-toplevel)
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" || true; fi; rm -rf "$folder"' EXIT
git clone --quiet "$repository" "$folder/newsdesk"
cd "$folder/newsdesk"
export XDG_STATE_HOME=$folder/state PYTHON=$python PIP_NO_CACHE_DIR=1
size() { du -sm "$1" | cut -f1; }
# What pip fetches for an extra, fetched again to be weighed: an index that pip does not cache leaves no other trace.
weigh() {
    .venv/bin/pip download --quiet --dest "$folder/wheels-$1" ".[$1]" 2>/dev/null
    size "$folder/wheels-$1"
}

"$python" --version
start=$SECONDS
NEWSDESK_HTTP_PORT=18080 NEWSDESK_GRPC_PORT=18081 NEWSDESK_METRICS_PORT=18082 NEWSDESK_GATEWAY_PORT=18083 make serve &
server=$!
until curl --silent --fail --output /dev/null localhost:18080/v2/models/ag_news/ready; do
    kill -0 "$server" # ends the script, with make's own message above, when serving did not start
    sleep 0.2
done
seconds=$((SECONDS - start))
echo "make serve: ready after $seconds s, $(weigh serve,gateway) MB downloaded, $(size .venv) MB installed"
curl --silent localhost:18080/v2/models/ag_news/infer --data \
    '{"inputs":[{"name":"TEXT","shape":[1,1],"datatype":"BYTES","data":["Wall Street bears claw back into the black"]}]}'
echo
kill "$server"
wait "$server" || true
server=

rm -rf .venv
start=$SECONDS
make test
seconds=$((SECONDS - start))
echo "make test: $seconds s, $(weigh test) MB downloaded, $(size .venv) MB installed"
