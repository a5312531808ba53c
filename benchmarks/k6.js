// The same load by k6, every answer checked; a broken threshold is k6's exit code 99.
//
//   k6 run -e PROFILE=steady -e USERS=200 -e SECONDS=120 [-e TEXTS=articles.txt] benchmarks/k6.js
//
// PROFILE is steady, spike, soak or open (RATE requests a second); HOST the gateway. TEXTS has an article a line.
import { check, sleep } from "k6";
import http from "k6/http";

const profile = __ENV.PROFILE || "steady";
const users = Number(__ENV.USERS || 200);
const seconds = Number(__ENV.SECONDS || 120);
const host = __ENV.HOST || "http://127.0.0.1:8080";
const texts = __ENV.TEXTS
  ? open(__ENV.TEXTS).split("\n").filter((line) => line.trim())
  : [
      "Central bank raises interest rates by a quarter point",
      "Striker scores twice as the visitors win the derby in extra time, and the coach keeps his job for another week",
      "Space probe sends first pictures of the moon of Saturn",
      "Prime minister flies to border talks as the ceasefire holds and thousands of villagers begin to return",
    ];

const few = Math.max(1, Math.round(users / 10));
const half = Math.max(1, Math.round(users / 2));
const during = (share) => `${Math.max(1, Math.round(share * seconds))}s`;
const stages = (first, ...others) => ({
  executor: "ramping-vus",
  startVUs: first[1],
  gracefulStop: "30s",
  stages: [first, ...others].flatMap(([share, target]) => [
    { duration: "0s", target },
    { duration: during(share), target },
  ]),
});
const profiles = {
  steady: { executor: "constant-vus", vus: users, duration: during(1), gracefulStop: "30s" },
  spike: stages([0.4, few], [0.2, users], [0.4, few]),
  soak: stages([0.1, half], [0.9, users]),
  open: {
    executor: "constant-arrival-rate",
    rate: Number(__ENV.RATE || 50),
    timeUnit: "1s",
    duration: during(1),
    preAllocatedVUs: users,
    maxVUs: 2000,
  },
};
if (!(profile in profiles)) {
  throw new Error(`PROFILE is ${profile}, expected one of ${Object.keys(profiles).join(", ")}`);
}
const paced = profile === "spike" || profile === "soak";

export const options = {
  scenarios: { [profile]: profiles[profile] },
  thresholds: {
    http_req_duration: [`p(99)<=${__ENV.P99_MS || 2000}`],
    http_req_failed: [`rate<=${__ENV.MOST_FAILURES || 0}`],
    checks: [`rate>=${1 - Number(__ENV.MOST_FAILURES || 0)}`],
    dropped_iterations: ["count<=0"],
  },
};

export function setup() {
  const response = http.get(`${host}/v1/labels`);
  if (response.status !== 200) {
    throw new Error(`${host}/v1/labels answers with status ${response.status}: is it a gateway?`);
  }
  return response.json("labels");
}

export function right(item, labels) {
  const shares = item && item.probabilities;
  if (!shares || Object.keys(shares).length !== labels.length || !labels.includes(item.label)) {
    return false;
  }
  const values = labels.map((label) => shares[label]);
  const sum = values.reduce((total, share) => total + share, 0);
  return Math.abs(sum - 1) < 1e-3 && shares[item.label] >= Math.max(...values) - 1e-3;
}

export default function (labels) {
  const began = Date.now();
  const body = JSON.stringify({ text: texts[Math.floor(Math.random() * texts.length)] });
  const response = http.post(`${host}/v1/classify`, body, { headers: { "Content-Type": "application/json" } });
  check(response, {
    "a label and probabilities that sum to 1": (got) => got.status === 200 && right(got.json("items.0"), labels),
  });
  if (paced) {
    sleep(Math.max(0, 1 - (Date.now() - began) / 1000));
  }
}
