// The page: one position in time, which the timeline, the slider and both panels follow.
// Everything stored is a stranger's text: it reaches the page through textContent only.

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; text stays text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const button = (text, act, kind = "link") => {
  const element = make("button", { type: "button", class: kind }, text);
  element.addEventListener("click", act);
  return element;
};

const words = (text) => make("span", { class: "words", dir: "auto" }, text);

const number = (value) => value.toLocaleString("en-GB");
const counted = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
const inUtc = (options) => {
  const format = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
  return (time) => {
    const date = new Date(time);
    return Number.isNaN(date.getTime()) ? String(time) : format.format(date);
  };
};
const theDay = inUtc({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
const shortDay = inUtc({ day: "numeric", month: "short", year: "numeric" });
const clock = inUtc({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const moment = (time) => `${shortDay(time)}, ${clock(time)} UTC`;

const about = JSON.parse($("about").textContent);
const events = $("events").textContent.trim().split("\n").filter(Boolean).map((line) => JSON.parse(line));
const history_ = new History(events);
const undoneBy = new Map();
events.forEach((event, index) => {
  const undoes = event.body?.data?.undoes;
  if (Number.isSafeInteger(undoes)) undoneBy.set(undoes, index);
});
const indexOf = new Map(events.map((event, index) => [event.position, index]));

const clientOf = (actor) => {
  const claimed = [actor?.client_name, actor?.client_version].filter(Boolean).join(" ");
  return actor?.client_id ?? (claimed || "unknown client");
};

/* ---------------------------------------------------------------- verdict */

function announce(state, heading, text) {
  document.documentElement.dataset.verdict = state;
  $("verdict").dataset.state = state;
  $("verdict-heading").textContent = heading;
  $("verdict-text").textContent = text;
}

async function verify() {
  $("head-position").textContent = number(about.head.position);
  $("head-hash").textContent = about.head.hash;
  announce("checking", "Checking the chain", `${counted(events.length, "event")}, in your own browser.`);
  if (!globalThis.crypto?.subtle) {
    announce("unknown", "Not checked", "This browser offers no WebCrypto here. Open the page as a file, or over https.");
    return;
  }
  const told = (done) => { $("progress").value = done / Math.max(1, events.length); };
  const findings = await verifyChain(about.user, events, about.head, told);
  const checkpoint = await checkpointOf(about.checkpoint);
  if (checkpoint) findings.push(...checkpoint.findings);
  $("progress").hidden = true;
  if (findings.length === 0) intact(checkpoint);
  else broken(findings.sort((a, b) => a[0] - b[0]));
}

/** Check the checkpoint that came with the page, and show what it is; null if there is none. */
async function checkpointOf(given) {
  if (!given) {
    $("checkpoint").textContent = "None covers this ledger: only what you have from elsewhere shows a cut end.";
    return null;
  }
  const checkpoint = await verifyCheckpoint(about.user, (at) => events[indexOf.get(at)]?.hash, given);
  const key = make("code", {}, given.key);
  if (checkpoint.findings.length > 0) {
    $("checkpoint").replaceChildren("It does not hold. Its key: ", key);
    return checkpoint;
  }
  const { number: count, time, size, signed } = checkpoint;
  const since = events.length - given.proof.position;
  $("checkpoint").replaceChildren(
    `Number ${number(count)} of ${moment(time)}, over ${counted(size, "ledger")}, has this one up to position ${number(given.proof.position)}. `,
    since > 0 ? `The ${since === 1 ? "event" : `${number(since)} events`} after it ${since === 1 ? "has" : "have"} only the chain. ` : "",
    signed ? "Its signature holds, by this key, which you should know from elsewhere: "
      : "This browser cannot check its signature (Ed25519). The key is said to be: ",
    key);
  return checkpoint;
}

function intact(checkpoint) {
  const erasures = events.filter((event) => event.type === "LedgerErased").length;
  const erased = erasures ? ` Words were erased ${erasures === 1 ? "once" : `${erasures} times`}, as recorded.` : "";
  const all = `All ${counted(events.length, "event")} follow from one another: nothing was changed, left out or added.`;
  const covered = checkpoint ? ` Checkpoint ${number(checkpoint.number)} of ${checkpoint.origin} covers it up to position ${number(about.checkpoint.proof.position)}.` : "";
  announce("intact", "The chain is intact", all + erased + covered);
}

function broken(findings) {
  const [position, field, what] = findings[0];
  const more = findings.length > 1 ? ` And ${number(findings.length - 1)} more.` : "";
  announce("broken", `Tampered: first fault at position ${position}`, `${field} ${what}.${more}`);
  document.title = `Tampered: ${document.title}`;
  const list = $("findings");
  list.hidden = findings.length === 1;
  for (const [at, name, text] of findings.slice(0, 100)) {
    const go = indexOf.has(at) ? button(`Position ${at}`, () => goTo(at)) : `Position ${at}`;
    list.append(make("li", {}, go, ` ${name} ${text}`));
  }
  if (findings.length > 100) list.append(make("li", {}, `and ${number(findings.length - 100)} more`));
  for (const [at] of findings) faulty.add(at);
  timeline.refresh();
  if (!indexOf.has(position)) return;
  const show = $("first-fault");
  show.textContent = `Show event ${position}`;
  show.hidden = false;
  show.addEventListener("click", () => goTo(position));
}

const faulty = new Set();

function compareReceipt(submitted) {
  submitted.preventDefault();
  const receipt = /^\s*(\d+):([0-9a-fA-F]{64})\s*$/.exec($("receipt").value);
  const event = receipt && events[indexOf.get(Number(receipt[1]))];
  const result = $("receipt-result");
  result.className = "";
  if (!receipt) result.textContent = "A receipt is a position, a colon and 64 hex digits.";
  else if (event?.hash === receipt[2].toLowerCase()) {
    result.className = "good";
    result.textContent = `Event ${event.position} is the one you have a receipt for.`;
  } else {
    result.className = "bad";
    result.textContent = `This ledger has ${event ? "another event" : "no event"} at position ${receipt[1]}.`;
  }
}

/* --------------------------------------------------------------- timeline */

let shown = []; // indexes of events, newest first
let entries = []; // rows: an event's index, or a day as text
let rowOf = new Map();
let only = null; // "task/17"
let current = events.length - 1;

const haystacks = events.map((event, index) => {
  const actor = event.actor ?? {};
  const changed = history_.changes[index].flatMap(([, before, after]) => [before, after]);
  const parts = [
    event.position, history_.sentences[index], event.type, event.body?.reason, actor.tool,
    clientOf(actor), actor.client_name, ...changed,
  ];
  return parts.filter((part) => part !== null && part !== undefined).join("\n").toLowerCase();
});

const timeline = new LongList(
  $("rows"),
  (row) => (typeof entries[row] === "string" ? 34 : 62),
  (row) => (typeof entries[row] === "string" ? dayRow(entries[row]) : eventRow(entries[row])),
);

const dayRow = (day) => make("div", { class: "dayrow", role: "presentation" }, day);

function eventRow(index) {
  const event = events[index];
  const chosen = index === current;
  const row = make("div", {
    class: `entry ${kindOf(event)}`, role: "option", id: `event-${event.position}`,
    "aria-selected": String(chosen), "aria-setsize": String(shown.length),
    "aria-posinset": String(places.get(index) + 1),
  });
  const reason = event.body?.reason;
  row.append(
    make("span", { class: "dot", "aria-hidden": "true" }),
    make("span", { class: "what", dir: "auto" }, history_.sentences[index]),
    make("span", { class: "position" }, String(event.position)),
    make("span", { class: "by" },
      `${clock(event.recorded_at)}  ${clientOf(event.actor)}`,
      reason ? make("span", { class: "why", dir: "auto" }, reason) : null),
  );
  if (faulty.has(event.position)) {
    row.classList.add("faulty");
    row.append(make("span", { class: "flag" }, "tampered"));
  }
  row.addEventListener("click", () => choose(index));
  return row;
}

let places = new Map(); // event index -> place among those shown

function filter() {
  const needles = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [type, client, tool] = ["by-type", "by-client", "by-tool"].map((id) => $(id).value);
  const [since, until] = [$("since").value, $("until").value];
  const fits = (event, index) =>
    (!type || event.type === type) && (!client || clientOf(event.actor) === client) &&
    (!tool || event.actor?.tool === tool) && (!only || isAbout(event, only)) &&
    (!since || event.recorded_at.slice(0, 10) >= since) &&
    (!until || event.recorded_at.slice(0, 10) <= until) &&
    needles.every((needle) => haystacks[index].includes(needle));
  shown = [];
  for (let index = events.length - 1; index >= 0; index--) if (fits(events[index], index)) shown.push(index);
  arrange();
  const filtered = needles.length || type || client || tool || only || since || until;
  $("reset").hidden = !filtered;
  $("only").hidden = !only;
  $("only").textContent = only ? `Only ${only.replace("/", " ")}  ×` : "";
  $("only").setAttribute("aria-label", only ? `Stop showing only ${only.replace("/", " ")}` : "");
  const all = counted(events.length, "event");
  $("count").textContent = filtered ? `${number(shown.length)} of ${all}` : all;
  step(0);
}

/** What happened to a thing, and what was caused in a conversation. */
const isAbout = (event, thing) =>
  `${event.stream_type}/${event.stream_id}` === thing ||
  `conversation/${event.actor?.conversation_id}` === thing;

/** Put the days between the events shown. */
function arrange() {
  entries = [];
  rowOf = new Map();
  places = new Map();
  let day = "";
  shown.forEach((index, at) => {
    const its = theDay(events[index].recorded_at);
    if (its !== day) entries.push((day = its));
    rowOf.set(index, entries.length);
    places.set(index, at);
    entries.push(index);
  });
  if (entries.length === 0) entries.push("No event fits these filters");
  timeline.reset(entries.length);
}

/* ------------------------------------------------------- the current event */

/** Make an event (an index; -1: before all) the current one, everywhere. */
function choose(index, reveal = true) {
  current = index;
  $("slider").value = String(index + 1);
  const event = events[index];
  const text = event ? `After event ${number(event.position)} of ${number(events.length)}` : "Before the first event";
  $("moment-text").replaceChildren(make("b", {}, text), event ? `  ${moment(event.recorded_at)}` : "");
  $("slider").setAttribute("aria-valuetext", event ? `${text}, ${moment(event.recorded_at)}` : text);
  if (reveal && rowOf.has(index)) timeline.reveal(rowOf.get(index));
  timeline.refresh();
  const active = event && $(`event-${event.position}`);
  if (active) $("rows").setAttribute("aria-activedescendant", active.id);
  else $("rows").removeAttribute("aria-activedescendant");
  step(0);
  showEvent(index);
  showState(index);
}

function goTo(position) {
  const index = indexOf.get(position);
  if (index === undefined) return;
  if (!rowOf.has(index)) {
    only = null;
    $("filters").reset();
    filter();
  }
  choose(index);
}

/** Move by `by` among the events shown (+1: later), and say which way there are more. */
function step(by) {
  const later = shown.filter((index) => index > current);
  const earlier = shown.find((index) => index < current);
  $("later").disabled = later.length === 0;
  $("earlier").disabled = earlier === undefined && current < 0;
  if (by > 0 && later.length) choose(later.at(-1));
  if (by < 0) choose(earlier ?? -1);
}

function showEvent(index) {
  const body = $("event-body");
  body.scrollTop = 0;
  const event = events[index];
  if (!event) {
    body.replaceChildren(make("h2", { id: "event-heading" }, "Nothing yet"),
      make("p", { class: "quiet" }, "This is the moment before the first event."));
    return;
  }
  body.replaceChildren(
    make("p", { class: `badge ${kindOf(event)}` }, event.type),
    make("h2", { id: "event-heading", dir: "auto" }, history_.sentences[index]),
    make("p", { class: "quiet" }, `Position ${number(event.position)}, version ${event.version} of ${event.stream_type} ${event.stream_id}, ${moment(event.recorded_at)}`),
    ...changesOf(index), ...whyOf(event), ...whoOf(event), ...hashesOf(event, index),
  );
}

function changesOf(index) {
  const event = events[index];
  if (event.body === null) return [make("p", { class: "note" }, "The words of this event were erased. The event itself, and who caused it, still stand in the chain.")];
  const changes = history_.changes[index];
  if (changes.length === 0) return [];
  return [make("h3", {}, "What changed"), make("div", { class: "changes" }, ...changes.map(change))];
}

function change([name, before, after]) {
  const fresh = before === undefined || before === null;
  return make("div", { class: "change" },
    make("h4", {}, name.replace("_", " ")),
    fresh ? null : make("del", {}, make("span", { class: "hidden" }, "before: "), value(before)),
    make("ins", {}, make("span", { class: "hidden" }, fresh ? "" : "after: "), value(after)));
}

function value(content) {
  if (content === undefined || content === null) return make("i", {}, "empty");
  if (content === true || content === false) return content ? "yes" : "no";
  if (Array.isArray(content)) {
    if (content.length === 0) return make("i", {}, "none");
    return make("span", { class: "tags" }, ...content.map((tag) => make("span", { class: "tag", dir: "auto" }, String(tag))));
  }
  return words(typeof content === "string" ? content : JSON.stringify(content));
}

function whyOf(event) {
  const lines = [];
  const reason = event.body?.reason;
  if (reason) lines.push(["Reason", words(reason)]);
  const { message_id: message, conversation_id: talk } = event.actor ?? {};
  if (message) {
    const said = history_.after(indexOf.get(event.position)).messages.get(message);
    const quote = said?.content ? make("q", { class: "words", dir: "auto" }, said.content.slice(0, 400)) : null;
    lines.push(["Because of", make("span", {}, button(`message ${message}`, () => goTo(message)), said?.role ? ` (${said.role}) ` : " ", quote)]);
  }
  if (talk) lines.push(["In", button(`conversation ${talk}`, () => goTo(talk))]);
  const undoes = event.body?.data?.undoes;
  if (Number.isSafeInteger(undoes)) lines.push(["Undoes", button(`event ${undoes}`, () => goTo(undoes))]);
  if (undoneBy.has(event.position)) {
    const later = events[undoneBy.get(event.position)].position;
    lines.push(["Undone by", button(`event ${later}`, () => goTo(later))]);
  }
  return lines.length ? [make("h3", {}, "Why"), pairs(lines)] : [];
}

function whoOf(event) {
  const actor = event.actor ?? {};
  const claimed = [actor.client_name, actor.client_version].filter(Boolean).join(" ");
  const lines = [
    ["Client", actor.client_id ? make("span", {}, words(String(actor.client_id)), make("span", { class: "mark" }, "verified")) : null],
    ["Claims to be", claimed ? words(claimed) : null],
    ["Tool", actor.tool], ["Through", actor.transport], ["Trace", actor.trace_id],
  ];
  const thing = `${event.stream_type}/${event.stream_id}`;
  const show = event.stream_type === "ledger" ? null : button(`Show only ${event.stream_type} ${event.stream_id}`, () => {
    only = thing;
    filter();
    choose(current);
  }, "plain");
  return [make("h3", {}, "Who"), pairs(lines.filter(([, text]) => text)), make("p", {}, show)];
}

function hashesOf(event, index) {
  const code = (text) => make("code", {}, String(text));
  const lines = [
    ["Event", code(event.event_id)], ["Command", code(event.command_id)],
    ["Commitment", code(event.commitment)], ["Content hash", code(event.content_hash)],
    ["Previous", code(index ? events[index - 1].hash : "the beginning")], ["Hash", code(event.hash)],
    ["Receipt", code(`${event.position}:${event.hash}`)],
  ];
  return [make("details", { class: "hashes" }, make("summary", {}, "Hashes"), pairs(lines))];
}

const pairs = (lines) =>
  make("dl", { class: "pairs" }, ...lines.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));

/* ---------------------------------------------------- the state at a moment */

let stateRows = [];
let talking = false;
const stateList = new LongList($("state-rows"), () => 52, (row) => stateRows[row]());

function showState(index) {
  const state = history_.after(index + 1);
  if (talking) conversations(state, events[index]);
  else tasks(state, events[index]);
  const touched = stateRows.findIndex((row) => row.touched);
  stateList.reset(stateRows.length);
  if (touched >= 0) stateList.reveal(touched);
}

function tasks(state, event) {
  const all = [...state.tasks].filter(([, task]) => !task.deleted);
  const open = all.filter(([, task]) => !task.completed).reverse();
  const done = all.filter(([, task]) => task.completed).reverse();
  const gone = state.tasks.size - all.length;
  $("state-count").textContent = `${number(open.length)} open, ${number(done.length)} completed, ${number(gone)} deleted`;
  const touched = event?.stream_type === "task" ? event.stream_id : null;
  const deleted = state.tasks.get(touched)?.deleted ? [[touched, state.tasks.get(touched)]] : [];
  stateRows = [...deleted, ...open, ...done].map(([id, task]) => {
    const row = () => taskRow(id, task, id === touched);
    row.touched = id === touched;
    return row;
  });
}

function taskRow(id, task, touched) {
  const status = task.deleted ? "deleted" : task.completed ? "completed" : "open";
  const row = make("div", { class: `thing ${status}${touched ? " touched" : ""}`, role: "listitem" });
  const details = [task.due ? `due ${shownDue(task.due)}` : "", task.priority ?? ""].filter(Boolean).join("  ");
  row.append(
    make("span", { class: "box", role: "img", "aria-label": status }),
    button(title(task), () => goTo(lastChange(`task/${id}`)), "name"),
    make("span", { class: "position" }, String(id)),
    make("span", { class: "by" }, details,
      ...(Array.isArray(task.tags) ? task.tags : []).slice(0, 4).map((tag) => make("span", { class: "tag", dir: "auto" }, String(tag)))),
  );
  return row;
}

// A date, or a date-time in UTC to the minute.
const shownDue = (due) => (due.length > 10 ? `${due.slice(0, 10)} ${due.slice(11, 16)} UTC` : due);

const title = (thing) =>
  typeof thing.title === "string" ? words(thing.title) : make("i", {}, thing.erased ? "erased" : "untitled");

/** The latest event of a thing up to the current one. */
function lastChange(thing) {
  for (let index = current; index >= 0; index--) {
    const event = events[index];
    if (`${event.stream_type}/${event.stream_id}` === thing) return event.position;
  }
  return undefined;
}

function conversations(state, event) {
  const talks = [...state.talks].filter(([, talk]) => !talk.deleted).reverse();
  const messages = new Map();
  for (const [id, message] of state.messages) {
    if (message.deleted) continue;
    if (!messages.has(message.conversation)) messages.set(message.conversation, []);
    messages.get(message.conversation).push([id, message]);
  }
  const count = talks.reduce((sum, [id]) => sum + (messages.get(id)?.length ?? 0), 0);
  $("state-count").textContent = `${counted(talks.length, "conversation")}, ${counted(count, "message")}`;
  stateRows = [];
  const add = (row, touched) => stateRows.push(Object.assign(row, { touched }));
  for (const [id, talk] of talks) {
    add(() => talkRow(id, talk), event?.stream_id === id && event.version === 1);
    for (const [at, message] of messages.get(id) ?? []) {
      const touched = event?.stream_id === id && messageOf(event, event.body?.data ?? {}) === at;
      add(() => messageRow(at, message, touched), touched);
    }
  }
}

const talkRow = (id, talk) =>
  make("div", { class: "thing talkhead", role: "listitem" },
    make("span", { class: "name" }, title(talk)), make("span", { class: "position" }, String(id)));

function messageRow(id, message, touched) {
  const content = typeof message.content === "string" ? message.content.slice(0, 300) : null;
  return make("div", { class: `thing message${touched ? " touched" : ""}`, role: "listitem" },
    make("span", { class: "role" }, message.role ?? "?"),
    button(content === null ? make("i", {}, "erased") : words(content), () => goTo(id), "name"),
    make("span", { class: "position" }, String(id)));
}

function talk(yes) {
  talking = yes;
  $("show-talk").setAttribute("aria-pressed", String(yes));
  $("show-tasks").setAttribute("aria-pressed", String(!yes));
  showState(current);
}

/* ------------------------------------------------------------------- begin */

function options(id, all, values) {
  const counted = new Map();
  for (const value of values) if (value) counted.set(value, (counted.get(value) ?? 0) + 1);
  const sorted = [...counted].sort(([a], [b]) => (a < b ? -1 : 1));
  $(id).append(make("option", { value: "" }, all),
    ...sorted.map(([value, count]) => make("option", { value }, `${value} (${number(count)})`)));
}

/** Run once things have been quiet for a moment. */
function later(act, wait) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, wait);
  };
}

const MOVES = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

function moveInTimeline(key) {
  if (!(key.key in MOVES) || shown.length === 0) return;
  key.preventDefault();
  const at = places.get(current) ?? shown.findIndex((index) => index <= current);
  const place = Math.min(shown.length - 1, Math.max(0, at + MOVES[key.key]));
  choose(shown[place]);
}

function slide() {
  choose(Number($("slider").value) - 1);
}

function begin() {
  document.title = `Ledger of ${about.user}`;
  $("user").textContent = about.user;
  const [first, last] = [events[0]?.recorded_at, events.at(-1)?.recorded_at];
  const days = [...new Set([shortDay(first), shortDay(last)])].join(" to ");
  $("extent").textContent = `${days}. Report made ${moment(about.created_at)}.`;
  options("by-type", "All types", events.map((event) => event.type));
  options("by-client", "All clients", events.map((event) => clientOf(event.actor)));
  options("by-tool", "All tools", events.map((event) => event.actor?.tool));
  $("slider").max = String(events.length);
  $("slider").addEventListener("input", slide);
  $("earlier").addEventListener("click", () => step(-1));
  $("later").addEventListener("click", () => step(1));
  $("rows").addEventListener("keydown", moveInTimeline);
  $("search").addEventListener("input", later(filter, 80));
  for (const id of ["by-type", "by-client", "by-tool", "since", "until"]) $(id).addEventListener("change", filter);
  $("filters").addEventListener("submit", (submitted) => submitted.preventDefault());
  $("filters").addEventListener("reset", () => { only = null; setTimeout(filter); });
  $("only").addEventListener("click", () => { only = null; filter(); $("rows").focus(); });
  $("receipt-form").addEventListener("submit", compareReceipt);
  $("show-tasks").addEventListener("click", () => talk(false));
  $("show-talk").addEventListener("click", () => talk(true));
  document.addEventListener("keydown", (key) => {
    if (key.key !== "/" || /INPUT|SELECT/.test(document.activeElement?.tagName ?? "")) return;
    key.preventDefault();
    $("search").focus();
  });
  addEventListener("hashchange", () => goTo(Number(location.hash.slice(1))));
  filter();
  choose(events.length - 1);
  if (location.hash) goTo(Number(location.hash.slice(1)));
  verify().catch((error) => announce("unknown", "Not checked", String(error)));
}

begin();
