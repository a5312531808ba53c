#!/bin/sh
# Without any library: the gateway's REST, a file, and the Open Inference Protocol of Triton itself.
# sh curl.sh [http://localhost:8080 [http://localhost:8000]]
set -e
gateway=${1:-http://localhost:8080}
triton=${2:-http://localhost:8000}

curl -sSf "$gateway/v1/classify" -H 'Content-Type: application/json' \
  -d '{"text": ["Shares slide as oil rises", ""], "top_k": 2, "quality": "best"}'
echo
printf 'text\nLeaders sign the treaty\nA chip that learns\n' |
  curl -sSf "$gateway/v1/classify/file" -H 'Content-Type: text/csv' --data-binary @-
curl -sSf "$triton/v2/models/ag_news/infer" \
  -d '{"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["Striker wins the match"]}],
       "outputs": [{"name": "LABEL"}]}'
echo
