// Five live signals, and a line each for drift, the log and retraining.

import { Chart } from "./chart.js";
import { byId, bytes, dashboard, element, figure, fill, milliseconds, percent } from "./elements.js";

const KEPT_POINTS = 180;
const SLO_MILLISECONDS = 10;
// The alerts' limits: of training's advantage over the heuristic, and of training's largest |Q|.
const LEAST_ADVANTAGE_SHARE = 0.8;
const MOST_TIMES_TRAINING = 10;

let policy = null;
let points = [];
let latest = null;

const tiles = {};

function tile(id, title, chartOptions) {
  const holder = byId(id);
  const value = element("p", { class: "figure" }, "–");
  const words = element("p", { class: "faint" });
  holder.replaceChildren(element("h3", {}, title), value, words);
  tiles[id] = { value, words, chart: chartOptions ? new Chart(holder, chartOptions) : null };
}

export function buildTiles() {
  tile("tile-decisions", "Decisions", { series: ["decisions/s"], label: "Decisions a second over the last minutes" });
  tile("tile-latency", "Latency", {
    series: ["p50", "p99"],
    limits: () => [{ value: SLO_MILLISECONDS, name: "10 ms" }],
    label: "Latency over the last minutes",
  });
  tile("tile-model", "Answered by the model", { series: ["% by the model"], label: "Share answered by the model over the last minutes" });
  tile("tile-q", "Largest |Q|", {
    series: ["max |Q|"],
    limits: () =>
      [
        { value: latest?.q_training_max, name: "training" },
        { value: latest?.q_bound, name: "bound" },
      ].filter((each) => each.value !== null && each.value !== undefined),
    label: "Largest absolute Q-value over the last minutes",
  });
  tile("tile-return", "Episode return", null);
}

/** Show a snapshot's figures of one policy. */
export function showSignals(snapshot, name) {
  const found = snapshot.policies[name];
  if (!found) return;
  if (name !== policy) {
    policy = name;
    points = [];
  }
  latest = found;
  points.push({ at: snapshot.at, ...found });
  points = points.slice(-KEPT_POINTS);
  byId("window").textContent = snapshot.window_seconds ? `of the last ${Math.round(snapshot.window_seconds)} s` : "";
  showTraffic(found);
  showQ(found);
  showReturn(snapshot, found);
  showLines(snapshot, found);
}

function column(pick) {
  return points.map((point) => pick(point) ?? null);
}

function set(id, value, unit, words, columns) {
  const { value: holder, words: line, chart } = tiles[id];
  holder.replaceChildren(value, element("span", { class: "unit" }, ` ${unit}`));
  line.replaceChildren(...words);
  if (chart) chart.show([column((point) => point.at), ...columns], `${value} ${unit}. ${line.textContent}`);
}

function showTraffic(found) {
  const rate = figure(found.decisions_per_second);
  set("tile-decisions", rate, "/s", [found.pinned ? "pinned to the heuristic" : ""], [column((point) => point.decisions_per_second)]);
  set(
    "tile-latency",
    `${milliseconds(found.p50_seconds)} · ${milliseconds(found.p99_seconds)}`,
    "ms",
    [found.in_time_share === null ? "nothing decided lately" : `p50 · p99; ${percent(found.in_time_share)} within 10 ms`],
    [column((point) => point.p50_seconds && point.p50_seconds * 1000), column((point) => point.p99_seconds && point.p99_seconds * 1000)],
  );
  tiles["tile-latency"].value.classList.toggle("bad", found.p99_seconds * 1000 > SLO_MILLISECONDS);
  const reasons = Object.entries(found.reasons).map(([reason, share]) => `${reason.replaceAll("_", " ")} ${percent(share)}`);
  const words = reasons.length ? `heuristic: ${reasons.join(", ")}` : found.model_share === null ? "nothing decided lately" : "no fallbacks";
  set("tile-model", percent(found.model_share), "", [words], [column((point) => point.model_share === null ? null : point.model_share * 100)]);
}

function showQ(found) {
  const words = [];
  if (found.q_bound !== null) words.push(`bound ${figure(found.q_bound)}`);
  else words.push("no bound declared");
  if (found.q_training_max) words.push(`training's maximum ${figure(found.q_training_max)}`);
  else words.push("training's maximum not known");
  const isBeyond = found.q_training_max > 0 && found.q_max > MOST_TIMES_TRAINING * found.q_training_max;
  const isOver = (found.q_bound !== null && found.q_max > found.q_bound) || isBeyond;
  set("tile-q", figure(found.q_max), isBeyond ? `over ${MOST_TIMES_TRAINING} times training’s` : isOver ? "over its bound" : "", [words.join(" · ")], [column((point) => point.q_max)]);
  tiles["tile-q"].value.classList.toggle("bad", isOver);
}

let trialReturns = null;

/** Mean returns that the judge has compared, where a version is or was on trial. */
export function setTrialReturns(found) {
  trialReturns = found;
}

function showReturn(snapshot, found) {
  const where = dashboard(snapshot.grafana_url, "dqn-health", "DQN Q and reward health", policy);
  const training = found.training_return;
  const reference =
    training === null
      ? "No training profile in this bundle."
      : `Training ${figure(training)}, heuristic ${figure(found.floor)}.`;
  if (trialReturns?.stable !== null && trialReturns?.stable !== undefined) {
    const mean = trialReturns.stable;
    const isLow = training !== null && found.floor !== null && mean < found.floor + LEAST_ADVANTAGE_SHARE * (training - found.floor);
    set("tile-return", figure(mean), isLow ? "too low" : "", [`Stable’s mean in the last trial. ${reference} `, where], []);
    tiles["tile-return"].value.classList.toggle("bad", isLow);
    return;
  }
  const words = [reference, " Live returns are joined by the recorder: see ", where, "."];
  tiles["tile-return"].value.classList.remove("bad");
  set("tile-return", figure(training), training === null ? "" : "in training", words, []);
}

function showLines(snapshot, found) {
  const { drift } = found;
  const health = dashboard(snapshot.grafana_url, "dqn-health", "DQN Q and reward health", policy);
  const watched = Object.entries(drift.watched).map(([signal, count]) => `${count} ${signal.replace("_", "-")}`);
  let said = "not armed: this version has no profile to judge by. ";
  if (drift.num_drifted) said = `${drift.num_drifted} columns have drifted: ${drift.drifted.join(", ")}. `;
  else if (drift.armed) said = `none found; watching ${watched.join(", ")} columns. `;
  fill("line-drift", element("span", { class: drift.num_drifted ? "bad" : "" }, said), health);

  const { log } = snapshot;
  const parts = [`${bytes(log.spool_bytes)} of ${bytes(log.spool_limit_bytes)} in the spool`];
  if (log.redis_up !== null) {
    parts.push(log.redis_up ? "Redis takes it" : "Redis is away");
    if (log.oldest_seconds) parts.push(`oldest unshipped ${figure(log.oldest_seconds)} s`);
  }
  if (log.dropped) parts.push(`${figure(log.dropped)} records not accepted lately`);
  if (log.refusal) parts.push(`accepts nothing: ${log.refusal}`);
  const isBad = Boolean(log.refusal || log.dropped || log.redis_up === 0);
  fill("line-log", element("span", { class: isBad ? "bad" : "" }, `${parts.join("; ")}. `), dashboard(snapshot.grafana_url, "dqn-data-loop", "DQN data loop", policy));
}

/** The newest version that retraining made, if any; its runs are Grafana's to show. */
export function showRetraining(found, grafanaUrl) {
  const said = found ? ["version ", String(found.version), " came from retraining, ", found.at, ". "] : ["no version here came from retraining. "];
  fill("line-retraining", ...said, dashboard(grafanaUrl, "dqn-data-loop", "DQN data loop", policy ?? ""));
}
