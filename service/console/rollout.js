// The trial under way with its evidence, the versions, and the ledger as a timeline.

import { call } from "./api.js";
import { Chart } from "./chart.js";
import { byId, element, figure, fill, moment, pairs, percent } from "./elements.js";

const ENTRIES_SHOWN = 30;
const NOTED_BY_PROGRAMS = new Set(["evidence", "load", "load_failed", "register"]);
const VERSIONS_DESCRIBED = 12;
const VERDICTS = { promote: "promote", roll_back: "roll back", undecided: "undecided" };

let chart = null;
let drawnVersions = "";
let shown = ENTRIES_SHOWN;
let past = { policy: null, entries: [] };
const described = new Map();

/** What the server says of a policy's rollout, versions and past, up to a position of the ledger. */
export async function fetchRollout(policy, position) {
  const at = `v1/policies/${encodeURIComponent(policy)}`;
  const [rollout, evidence, versions] = await Promise.all([
    call(`${at}/rollout`),
    call(`${at}/rollout/evidence`),
    call(`${at}/versions`),
    fetchLedger(at, policy, position),
  ]);
  const named = new Set([rollout.stable, rollout.canary, rollout.shadow, rollout.previous]);
  const newest = versions.versions.slice(-VERSIONS_DESCRIBED);
  const chosen = versions.versions.filter((version) => named.has(version) || newest.includes(version));
  return {
    rollout,
    evidence,
    versions: await Promise.all(chosen.reverse().map((version) => describeVersion(at, version))),
    numOthers: versions.versions.length - chosen.length,
  };
}

async function describeVersion(at, version) {
  const path = `${at}/versions/${version}`;
  try {
    // Versions are immutable: each is asked for once.
    if (!described.has(path)) described.set(path, await call(path));
  } catch (error) {
    return { version, fault: error.message };
  }
  return described.get(path);
}

/** Keep all entries; only those that are new are asked for. */
async function fetchLedger(at, policy, position) {
  const last = past.entries.at(-1)?.position ?? 0;
  // A ledger that is shorter than what was read is another one.
  if (past.policy !== policy || last > position) past = { policy, entries: [] };
  const told = await call(`${at}/ledger?after=${past.entries.at(-1)?.position ?? 0}`);
  past.entries = past.entries.concat(told.entries);
}

export function showTrial({ rollout, evidence }) {
  const trial = rollout.rollout;
  const flags = [rollout.pinned ? "pinned to the heuristic" : null, rollout.frozen ? "frozen" : null].filter(Boolean);
  const serves = rollout.stable === null ? "No version has been promoted: the heuristic answers." : `Version ${rollout.stable} is stable.`;
  const children = [element("p", {}, [serves, flags.length ? `The policy is ${flags.join(" and ")}.` : ""].join(" "))];
  const plotted = trial.outcome !== null && evidence.points.length > 0;
  children.push(element("p", { class: "sentence" }, trial.outcome === null ? "No version is on trial." : trialTitle(trial)));
  if (trial.outcome !== null) {
    children.push(element("p", {}, `The judge says: ${trial.sentence}.`));
    children.push(trialFigures(trial));
  }
  fill("trial", ...children);
  byId("evidence").hidden = !plotted;
  if (plotted) showEvidence(evidence);
}

function trialTitle(trial) {
  const what = trial.kind === "holdback" ? "held back" : "on trial";
  if (trial.outcome !== "open") return `The last trial, of version ${trial.version}, ended: ${trial.outcome.replace("_", " ")}.`;
  const paused = trial.paused ? ", paused" : "";
  return `Version ${trial.version} is ${what} against ${trial.against} with ${percent(trial.share)} of new episodes${paused}.`;
}

function trialFigures(trial) {
  const means = trial.mean_return;
  return pairs([
    ["Verdict", VERDICTS[trial.verdict] ?? trial.verdict],
    ["Stage", `${trial.stage + 1} of ${trial.stages.length} (${trial.stages.map(percent).join(", ")}), mode ${trial.mode}`],
    ["Compared", `${trial.blocks} canary episodes of ${trial.episodes} in all; ${trial.blocks_at_stage} of at least ${trial.minimum_blocks} at this stage`],
    ["Mean return", means.canary === null ? null : `canary ${figure(means.canary)}, stable ${figure(means.stable)}`],
    ["Evidence of harm", `${figure(trial.evidence.rollback)} of ${figure(trial.needed.rollback)} needed to roll back`],
    ["Evidence it is no worse", `${figure(trial.evidence.promotion)} of ${figure(trial.needed.promotion)} needed to promote`],
    ["Since", moment(trial.opened_at)],
  ]);
}

function showEvidence({ points, needed }) {
  chart ??= new Chart(byId("evidence-chart"), {
    series: ["no worse", "harm"],
    limits: () => [
      { value: needed.promotion, name: `promote at ${needed.promotion}` },
      { value: needed.rollback, name: `roll back at ${needed.rollback}` },
    ],
    height: 220,
    logarithmic: true,
    label: "Evidence over time",
  });
  const last = points[points.length - 1];
  // A logarithmic axis has no zero.
  const lifted = (value) => Math.max(value, 0.01);
  const words = `Evidence after ${last.blocks} compared episodes: that it is no worse ${figure(last.promotion)} (blue), of harm ${figure(last.rollback)} (orange); times likelier, on a logarithmic axis.`;
  chart.show([points.map((each) => each.at), points.map((each) => lifted(each.promotion)), points.map((each) => lifted(each.rollback))], words);
  byId("evidence-words").textContent = words;
}

export function showVersions({ rollout, versions, numOthers }, actionsOf) {
  const { policy, stable, canary, shadow, previous, frozen, rollout: trial } = rollout;
  const known = versions.map(({ version, fault }) => [version, fault]);
  const now = JSON.stringify([policy, stable, canary, shadow, previous, frozen, trial.outcome, trial.kind, known]);
  // Drawn anew, a card that is being read would jump to its beginning.
  if (now === drawnVersions) return;
  drawnVersions = now;
  const isOpen = new Set([...document.querySelectorAll("#versions details[open]")].map((each) => each.dataset.version));
  const shownOnes = versions.map((each) => versionElement(each, rollout, actionsOf, isOpen));
  const rest = numOthers ? `${numOthers} earlier versions are in the repository.` : versions.length ? null : "The repository holds no version.";
  fill("versions", ...shownOnes, rest && element("p", { class: "faint" }, rest));
}

function versionElement(found, rollout, actionsOf, isOpen) {
  const { version } = found;
  const tags = ["stable", "canary", "shadow", "previous"].filter((alias) => rollout[alias] === version);
  const summary = element("summary", { "data-focus": `version-${version}` }, element("strong", {}, `Version ${version}`), ...tags.map((tag) => element("span", { class: "tag" }, tag)));
  const details = element("details", { "data-version": version }, summary);
  details.open = isOpen.has(String(version));
  if (found.fault) details.append(element("p", { class: "fault" }, found.fault));
  else {
    summary.append(element("span", { class: "faint" }, ` from ${found.lineage.source}, ${new Date(found.lineage.created_at).toLocaleDateString()}`));
    details.append(lineage(found), element("pre", { tabindex: "0", role: "region", "data-focus": `card-${version}`, "aria-label": `Card of version ${version}` }, found.card));
  }
  return element("div", { class: "version" }, details, element("div", { class: "actions" }, ...actionsOf(version)));
}

function lineage(found) {
  const from = found.lineage;
  const returns = found.training?.episode_return;
  return pairs([
    ["Made", moment(from.created_at)],
    ["By", from.source],
    ["Parent", found.parent === null ? null : `version ${found.parent}`],
    ["Environment", from.environment],
    ["Training steps", from.training_steps === null ? null : from.training_steps.toLocaleString()],
    ["Seed", from.seed === null ? null : String(from.seed)],
    ["Data set", from.dataset_id],
    ["Git revision", from.git_revision],
    ["Checkpoint", from.checkpoint_sha256],
    ["Return in training", returns ? `${figure(returns.mean)} ± ${figure(returns.sd)}` : null],
    ["Heuristic’s return", found.floor === null ? null : figure(found.floor)],
    ["Q bound", found.q_bound === null ? null : figure(found.q_bound)],
  ]);
}

export function showLedger() {
  const all = byId("ledger-all").checked;
  const kept = past.entries.filter((entry) => all || !NOTED_BY_PROGRAMS.has(entry.action)).reverse();
  fill("ledger", ...kept.slice(0, shown).map(ledgerElement));
  byId("ledger-more").hidden = kept.length <= shown;
}

export function showMoreOfLedger() {
  shown += ENTRIES_SHOWN;
  showLedger();
}

function ledgerElement(entry) {
  const what = entry.action.replaceAll("_", " ") + (entry.version ? ` version ${entry.version}` : "");
  return element("li", {}, element("strong", {}, what), element("span", { class: "faint" }, ` by ${entry.who}, `, moment(entry.at)), element("div", {}, entry.why));
}
