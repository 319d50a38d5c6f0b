"use strict";
// The page: facts come as events, texts only for review and only when somebody asks for them.
// Everything is put into the page as text, never as markup.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const put = (id, text) => { const it = $(id); if (it.textContent !== text) it.textContent = text; };
const make = (name, text, more = {}) => {
  const it = document.createElement(name);
  if (text !== undefined) it.textContent = text;
  for (const [key, value] of Object.entries(more)) it.setAttribute(key, value);
  return it;
};

// Words and numbers.
const LEVELS = { well: "Well", limited: "Limited", ill: "Ill" };
const ms = (it) => it === undefined ? "–" : it < 1000 ? `${Math.round(it * 10) / 10} ms` : it < 60000 ? `${Math.round(it / 100) / 10} s` : `${Math.round(it / 6000) / 10} min`;
const bytes = (it) => {
  if (it === undefined || it === null) return "–";
  let unit = 0;
  while (it >= 1024 && unit < 4) { it /= 1024; unit += 1; }
  return `${unit && it < 100 ? it.toFixed(1) : Math.round(it)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
};
const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });
const age = (span) => span < 60000 ? `${Math.round(span / 1000)} s` : span < 3600000 ? `${Math.round(span / 60000)} min` : `${Math.round(span / 360000) / 10} h`;

function list(id, rows) {
  const wanted = JSON.stringify(rows);
  const it = $(id);
  if (it.dataset.shown === wanted) return;
  it.dataset.shown = wanted;
  it.replaceChildren(...rows.map(([name, value]) => {
    const row = make("div");
    row.append(make("dt", name), make("dd", value));
    return row;
  }));
}

function bars(id, rows) {
  const wanted = JSON.stringify(rows);
  const it = $(id);
  if (it.dataset.shown === wanted) return;
  it.dataset.shown = wanted;
  it.replaceChildren(...rows.map(([name, value, part, whole]) => {
    const item = make("li");
    const row = make("div", undefined, { class: "row" });
    row.append(make("span", name), make("span", value));
    item.append(row, make("progress", undefined, { max: Math.max(whole, 1), value: Math.min(part, whole), "aria-label": name }));
    return item;
  }));
}

// The facts.
let lastAt = 0;
function show(facts) {
  lastAt = Date.now();
  const status = facts.status;
  const level = facts.wellness.level;
  $("word").dataset.level = level;
  put("level", LEVELS[level] ?? level);
  const told = JSON.stringify(facts.wellness.reasons);
  if ($("reasons").dataset.shown !== told) {
    $("reasons").dataset.shown = told;
    const texts = facts.wellness.reasons.map((it) => it.text);
    if (!texts.length) texts.push("Nothing is to be done.");
    $("reasons").replaceChildren(...texts.map((text) => make("li", text)));
  }
  const rates = facts.rates;
  put("tps", rates.tokens_per_s.toFixed(rates.tokens_per_s < 10 ? 1 : 0));
  put("rps", `${rates.requests_per_s.toFixed(2)} /s`);
  put("p50", ms(rates.p50_ms)); put("p90", ms(rates.p90_ms)); put("p99", ms(rates.p99_ms));
  put("ft", ms(rates.first_token_p50_ms));
  put("window", age(Math.max(rates.seconds, 1) * 1000));
  const all = rates.edge + rates.cloud + rates.human + rates.refused;
  const mix = [["edge", "the edge"], ["cloud", "a cloud"], ["human", "a person"], ["refused", "refused"]];
  bars("mix", mix.map(([key, name]) => [name, String(rates[key]), rates[key], all]));
  latest(facts.latest);
  memory(facts.memory);
  if (!status) return;
  document.title = `${LEVELS[level] ?? level}: ${status.appliance}`;
  put("name", status.appliance); put("version", status.version);
  heat(status.governor);
  list("queues", [
    ["Open requests", String(status.open)], ["Being computed", String(status.running)],
    ["Waiting for the engine", String(status.waiting)], ["Waiting for a cloud", String(status.away)],
    ["Waiting for a person", String(status.pending)], ["Replies for the broker", String(status.outbox)],
  ]);
  const limits = new Map(facts.limits);
  bars("disk", status.bytes.map(([tree, used]) => [tree, `${bytes(used)} of ${bytes(limits.get(tree))}`, used, limits.get(tree) ?? 0]));
  const model = status.standing;
  const rows = [
    ["Broker", `${status.broker_online ? "online" : "offline"}, ${facts.broker}`],
    ...status.cloud.map(([name, word]) => [`Cloud ${name}`, word]),
    ["Engine", status.engine + (status.engine_why ? `: ${status.engine_why}` : "")],
    ["Engine restarts", String(status.engine_crashes)],
    ["Model", [status.package ?? "none", model?.variant, model?.gate && `${model.gate[0]} of ${model.gate[1]} right in its gate`].filter(Boolean).join(", ")],
    ["Board", model?.board ?? "not known yet"],
    ["Disk", status.store],
  ];
  if (!status.cloud.length) rows.splice(1, 0, ["Cloud", "none is set"]);
  const rollout = facts.rollout;
  if (rollout.state) rows.push(["Roll-out", [rollout.state, rollout.package, rollout.why].filter(Boolean).join(", ")]);
  const packages = facts.packages;
  if (packages) {
    const way = packages.needed_bytes ? `${bytes(packages.there_bytes)} of ${bytes(packages.needed_bytes)}` : "";
    rows.push(["Packages", [packages.state, packages.package, way].filter(Boolean).join(", ")]);
    if (packages.outcome) rows.push(["Last look", [packages.outcome, packages.message, packages.looked_ms && clock(packages.looked_ms)].filter(Boolean).join(", ")]);
    rows.push(["Ring", packages.ring]);
  } else rows.push(["Packages", "by hand"]);
  list("lines", rows);
  const pending = String(status.pending);
  if ($("pending").textContent !== pending) {
    put("pending", pending);
    $("pending").dataset.some = status.pending ? "yes" : "no";
    inbox();
  }
}

function memory(it) {
  if (!it) return;
  const whole = it.group_limit_bytes ?? it.total_bytes ?? 0;
  const used = whole - (it.available_bytes ?? 0);
  bars("memory", [
    ["Engine", bytes(it.engine_bytes), it.engine_bytes ?? 0, whole],
    ["Service", bytes(it.service_bytes), it.service_bytes ?? 0, whole],
    ["All of the machine", `${bytes(it.total_bytes - it.available_bytes)} of ${bytes(it.total_bytes)}`, Math.max(used, 0), whole],
  ]);
  put("memory-note", `Room for the appliance: ${bytes(it.room_bytes)} (${it.limited_by}).${it.stalled_percent ? ` Stalled for want of memory: ${it.stalled_percent.toFixed(1)} percent.` : ""}`);
}

function latest(it) {
  if (!it) return;
  const wanted = JSON.stringify(it.requests);
  if ($("latest").dataset.shown === wanted) return;
  $("latest").dataset.shown = wanted;
  $("latest").replaceChildren(...it.requests.map((request) => {
    const row = make("tr");
    const who = request.source ?? (request.verdict ? `refused: ${request.verdict}` : request.state);
    const took = request.settled_ms ? ms(request.settled_ms - request.accepted_ms) : "";
    const sure = request.confidence === undefined ? "" : request.confidence.toFixed(2);
    for (const text of [clock(request.accepted_ms), request.id, request.client, request.rule ?? "", who, sure, took]) row.append(make("td", text));
    return row;
  }));
}

// The chart: up to ten minutes back, one ahead.
let points = [];
let governor = {};
function heat(it) {
  governor = it;
  if (it.celsius === undefined) {
    put("celsius", "–");
    put("heat-note", "No temperature sensor counts here.");
    return draw();
  }
  put("celsius", `${it.celsius.toFixed(1)} °C`);
  const words = [`${it.state}; limit ${it.limit_celsius.toFixed(0)} °C`];
  if (it.ahead_celsius !== undefined) words.push(`${it.ahead_celsius.toFixed(1)} °C in a minute`);
  if (it.limit_in_s !== undefined) words.push(`limit in ${age(it.limit_in_s * 1000)}`);
  if (it.rest_permille) words.push(`rests ${(it.rest_permille / 10).toFixed(0)} percent after each pass`);
  put("heat-note", `${words.join("; ")}.`);
  const at = Date.now();
  points.push({ at_ms: at, celsius: it.celsius });
  points = points.filter((point) => at - point.at_ms <= 600000);
  draw();
}

function draw() {
  const known = points.filter((it) => it.celsius !== undefined);
  const chart = $("chart");
  const title = $("chart-title");
  chart.replaceChildren(title);
  if (!known.length) return;
  const now = known[known.length - 1];
  const values = known.map((it) => it.celsius);
  for (const more of [governor.limit_celsius, governor.ahead_celsius]) if (more !== undefined) values.push(more);
  const wide = Math.max(chart.clientWidth, 200);
  const tall = Math.max(chart.clientHeight, 100);
  chart.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
  const low = Math.floor((Math.min(...values) - 2) / 5) * 5;
  const high = Math.ceil((Math.max(...values) + 2) / 5) * 5;
  const back = Math.min(Math.max(now.at_ms - known[0].at_ms, 60000), 600000);
  const x = (at) => wide * (1 - (now.at_ms + 60000 - at) / (back + 60000));
  const y = (celsius) => tall - 6 - (tall - 24) * (celsius - low) / (high - low);
  const path = (kind, way) => {
    const it = document.createElementNS(SVG, "path");
    it.setAttribute("class", kind);
    it.setAttribute("d", way);
    chart.append(it);
  };
  const step = high - low > 40 ? 20 : 10;
  for (let line = Math.ceil(low / step) * step; line <= high; line += step) {
    path("c-grid", `M0 ${y(line)}H${wide}`);
    const label = document.createElementNS(SVG, "text");
    label.setAttribute("x", "4"); label.setAttribute("y", String(y(line) - 3));
    label.textContent = `${line} °C`;
    chart.append(label);
  }
  if (governor.limit_celsius !== undefined) path("c-limit", `M0 ${y(governor.limit_celsius)}H${wide}`);
  path("c-line", known.map((it, no) => `${no ? "L" : "M"}${x(it.at_ms).toFixed(1)} ${y(it.celsius).toFixed(1)}`).join(""));
  if (governor.ahead_celsius !== undefined) path("c-ahead", `M${x(now.at_ms).toFixed(1)} ${y(now.celsius).toFixed(1)}L${wide} ${y(governor.ahead_celsius).toFixed(1)}`);
  title.textContent = `Temperature: ${now.celsius.toFixed(1)} °C now` + (governor.limit_celsius === undefined ? "" : `, limit ${governor.limit_celsius.toFixed(0)} °C`) + (governor.ahead_celsius === undefined ? "" : `, ${governor.ahead_celsius.toFixed(1)} °C in a minute`);
}

// The line to the appliance. The browser connects again by itself, except after a refusal.
function listen() {
  const events = new EventSource("events");
  events.addEventListener("facts", (event) => { put("line", "Live"); show(JSON.parse(event.data)); });
  events.addEventListener("error", () => {
    put("line", "No connection; trying again …");
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 10000);
  });
}
setInterval(() => {
  if (lastAt && Date.now() - lastAt > 15000) {
    $("word").dataset.level = "unknown";
    put("level", "Unknown");
    put("line", `Nothing heard for ${age(Date.now() - lastAt)}`);
  }
}, 5000);

// The inbox.
let items = [];
let open = null;
const reviewer = () => $("reviewer").value.trim();
function said(text, bad) { put("said", text); $("said").dataset.bad = bad ? "yes" : "no"; }

async function call(path, body) {
  const more = body ? { method: "POST", headers: { "Content-Type": "application/json", "X-Lineside": "1" }, body: JSON.stringify(body) } : {};
  let answer;
  try { answer = await fetch(path, more); } catch { throw new Error("The appliance does not answer."); }
  const told = await answer.json().catch(() => ({ error: { message: `HTTP ${answer.status}` } }));
  if (told.error) throw new Error(told.error.message);
  return told;
}

async function inbox() {
  let told;
  try { told = await call("api/review"); } catch (error) { return said(error.message, true); }
  items = told.items;
  put("where", told.viewer === "here" ? "" : "What is restricted is not shown here: it is reviewed at the appliance alone.");
  const focused = document.activeElement?.dataset?.id;
  $("items").replaceChildren(...items.map((item) => {
    const entry = make("li");
    const button = make("button", `${item.task ?? "free prompt"}, ${item.priority}`, { type: "button", "data-id": item.id });
    const held = item.held_by ? `, held by ${item.held_by}` : "";
    button.append(make("small", `${item.client}: ${item.request_id}, ${item.classification}, waits ${age(item.age_ms)}${held}`));
    if (open?.id === item.id) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => take(item.id));
    entry.append(button);
    return entry;
  }));
  if (!items.length) $("items").append(make("li", "Nothing waits for a person.", { class: "note" }));
  if (focused) buttonOf(focused)?.focus();
  if (open && !items.some((item) => item.id === open.id)) close();
}
const buttonOf = (id) => [...$("items").querySelectorAll("button")].find((it) => it.dataset.id === id);

async function take(id) {
  if (!named()) return;
  try {
    open = await call("api/review", { action: "take", id, reviewer: reviewer() });
  } catch (error) { return said(error.message, true); }
  said("", false);
  put("h-sheet", `${open.client}: ${open.request_id}`);
  put("s-why", open.why);
  put("s-question", open.question);
  const draft = open.draft;
  put("s-draft", draft ? draft.text : "There is none.");
  put("s-by", draft ? [draft.source, draft.model, draft.confidence !== undefined && `confidence ${draft.confidence.toFixed(2)}`].filter(Boolean).join(", ") : "");
  $("b-approve").disabled = !draft;
  $("entry").hidden = true;
  $("sheet").hidden = false;
  $("sheet").focus();
  $("sheet").scrollIntoView({ block: "nearest" });
  inbox();
}

function close() {
  open = null;
  $("sheet").hidden = true;
  $("entry").hidden = true;
}

function named() {
  if (reviewer()) return true;
  said("Type your name first: it goes with each verdict.", true);
  $("reviewer").focus();
  return false;
}

async function deed(action, more = {}) {
  if (!open || !named()) return;
  const id = open.id;
  const next = items[items.findIndex((item) => item.id === id) + 1] ?? items[0];
  try {
    await call("api/review", { action, id, reviewer: reviewer(), ...more });
  } catch (error) { return said(error.message, true); }
  said({ approve: "Approved.", correct: "Corrected.", reject: "Rejected.", release: "Given back." }[action], false);
  close();
  await inbox();
  (next && buttonOf(next.id) || $("items").querySelector("button") || $("inbox")).focus();
}

let entry = null;
function ask(kind) {
  if (!open) return;
  entry = kind;
  const choices = kind === "correct" ? open.answer.choices ?? [] : [];
  put("entry-label", kind === "correct" ? `Correction (${open.answer.kind})` : "Why is there no answer?");
  $("entry-choice").replaceChildren(...choices.map((choice) => make("option", choice, { value: choice })));
  $("entry-choice").hidden = !choices.length;
  $("entry-text").hidden = choices.length > 0;
  $("entry-text").value = kind === "correct" && open.draft && !choices.length ? open.draft.text : "";
  $("entry").hidden = false;
  (choices.length ? $("entry-choice") : $("entry-text")).focus();
}
function send() {
  const text = $("entry-choice").hidden ? $("entry-text").value : $("entry-choice").value;
  deed(entry, entry === "correct" ? { text } : { reason: text });
}

$("b-approve").addEventListener("click", () => deed("approve"));
$("b-correct").addEventListener("click", () => ask("correct"));
$("b-reject").addEventListener("click", () => ask("reject"));
$("b-release").addEventListener("click", () => deed("release"));
$("entry").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("entry-stop").addEventListener("click", () => { $("entry").hidden = true; $("sheet").focus(); });
$("reviewer").addEventListener("change", () => { try { localStorage.setItem("reviewer", reviewer()); } catch { /* it is asked for again */ } });
try { $("reviewer").value = localStorage.getItem("reviewer") ?? ""; } catch { /* it is asked for */ }

document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName);
  if (event.key === "Escape") {
    if (!$("entry").hidden) { $("entry").hidden = true; $("sheet").focus(); }
    else if (open) { const id = open.id; close(); buttonOf(id)?.focus(); }
    else if (typing) event.target.blur();
    return;
  }
  if (typing && event.key === "Enter" && (event.ctrlKey || event.target.tagName === "SELECT") && !$("entry").hidden) {
    event.preventDefault();
    return send();
  }
  if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "j" || event.key === "k") {
    const all = [...$("items").querySelectorAll("button")];
    if (!all.length) return;
    const at = all.indexOf(document.activeElement);
    const to = at < 0 ? 0 : (at + (event.key === "j" ? 1 : all.length - 1)) % all.length;
    all[to].focus();
  } else if (event.key === "a") deed("approve");
  else if (event.key === "c") ask("correct");
  else if (event.key === "r") ask("reject");
  else if (event.key === "u") deed("release");
  else return;
  event.preventDefault();
});

fetch("api/track").then((answer) => answer.json()).then((track) => {
  const skew = Date.now() - (track.points?.at(-1)?.at_ms ?? Date.now());
  points = [...(track.points ?? []).map((it) => ({ ...it, at_ms: it.at_ms + skew })), ...points];
  if (track.governor) governor = track.governor;
  draw();
}).catch(() => {});
inbox();
listen();
