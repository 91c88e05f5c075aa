// The hash chain, format 1, as events/ledger.py checks it. Pure but for WebCrypto.

const utf8 = new TextEncoder();
const BODY_TAG = utf8.encode("tasktrail/body/v1\0");
const EVENT_TAG = utf8.encode("tasktrail/event/v1\0");
const LEDGER_TAG = utf8.encode("tasktrail/ledger/v1\0");

/** RFC 8785: JSON with sorted keys and ECMAScript's own strings. Our numbers are whole. */
function canonical(value) {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new TypeError("a number in it is no integer");
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.keys(value).sort();
    return `{${members.map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

function joined(...parts) {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function fromHex(text, length) {
  if (typeof text !== "string" || text.length !== 2 * length || !/^[0-9a-f]*$/.test(text)) {
    throw new TypeError(`is not ${length} bytes in hex`);
  }
  return Uint8Array.from({ length }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

async function hmac(key, message) {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", key, algorithm, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", imported, message));
}

/** Microseconds since 1970, exactly. */
function microseconds(time) {
  const parts = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{6})Z$/.exec(time);
  const seconds = parts ? Date.parse(`${parts[1]}Z`) : Number.NaN;
  if (Number.isNaN(seconds)) throw new TypeError("is not a time in UTC with microseconds");
  return BigInt(seconds) * 1000n + BigInt(parts[2]);
}

function place(event) {
  const view = new DataView(new ArrayBuffer(32));
  view.setBigInt64(0, BigInt(event.position));
  view.setBigInt64(8, BigInt(event.stream_id));
  view.setBigInt64(16, BigInt(event.version));
  view.setBigInt64(24, microseconds(event.recorded_at));
  return new Uint8Array(view.buffer);
}

const commitment = (body, salt) => hmac(salt, joined(BODY_TAG, utf8.encode(canonical(body))));

function contentHash(event) {
  const { event_id, command_id, type, schema_version, stream_type, actor, commitment } = event;
  const header = { v: 1, event_id, command_id, type, schema_version, stream_type, actor, commitment };
  return sha256(joined(EVENT_TAG, utf8.encode(canonical(header))));
}

/** What is wrong with one event by itself and with its link: [[field, what]]. */
async function faultsOf(event, previousHash) {
  const faults = [];
  try {
    const content = fromHex(event.content_hash, 32);
    const stored = fromHex(event.hash, 32);
    fromHex(event.commitment, 32);
    if (event.body !== null && event.salt !== null) {
      const made = await commitment(event.body, fromHex(event.salt, 16));
      if (toHex(made) !== event.commitment) faults.push(["body", "does not match its commitment"]);
    } else if (event.body !== event.salt || event.type === "LedgerErased") {
      faults.push(["body", "body and salt are not both there"]);
    }
    if (toHex(await contentHash(event)) !== event.content_hash) {
      faults.push(["content_hash", "does not match type, actor, ids or commitment"]);
    }
    if (toHex(await sha256(joined(previousHash, content, place(event)))) !== toHex(stored)) {
      faults.push(["hash", "does not follow from the event before it and its own columns"]);
    }
  } catch (error) {
    faults.push(["event", `cannot be read: ${error.message}`]);
  }
  return faults;
}

/** What is wrong with the order of events: positions, times and versions without gaps. */
class Order {
  constructor() {
    this.position = 0;
    this.time = "";
    this.versions = new Map();
  }

  faultsOf(event) {
    const faults = [];
    if (event.position !== this.position + 1) {
      faults.push(["position", `expected ${this.position + 1}: events are missing or added`]);
    }
    if (event.recorded_at < this.time) faults.push(["recorded_at", "is earlier than the event before it"]);
    const stream = `${event.stream_type}/${event.stream_id}`;
    const expected = (this.versions.get(stream) ?? 0) + 1;
    if (event.version !== expected) faults.push(["version", `expected ${expected} in its stream`]);
    this.versions.set(stream, event.version);
    this.position = event.position;
    this.time = event.recorded_at;
    return faults;
  }
}

/** Words may be missing only where a later erasure covers them. */
function uncovered(events) {
  let missing = [];
  const wrong = [];
  for (const event of events) {
    if (event.body === null && event.type !== "LedgerErased") missing.push(event.position);
    if (event.type !== "LedgerErased" || event.body === null) continue;
    const through = event.body?.data?.through;
    if (Number.isSafeInteger(through) && through < event.position) {
      missing = missing.filter((position) => position > through);
    } else {
      wrong.push([event.position, "body", "an erasure must cover positions before its own"]);
    }
  }
  return [...wrong, ...missing.map((at) => [at, "body", "is missing, and no later erasure covers it"])];
}

/**
 * Check a whole ledger; `told(n)` hears how many events are done.
 * Returns [[position, field, what]], first fault first; nothing if it is intact.
 */
async function verifyChain(user, events, head, told) {
  const BATCH = 200;
  const findings = [];
  const order = new Order();
  const genesis = await sha256(joined(LEDGER_TAG, utf8.encode(user)));
  const previous = (index) => {
    try {
      return index === 0 ? genesis : fromHex(events[index - 1].hash, 32);
    } catch {
      return new Uint8Array(32);
    }
  };
  for (let start = 0; start < events.length; start += BATCH) {
    const batch = events.slice(start, start + BATCH);
    const faults = await Promise.all(batch.map((event, i) => faultsOf(event, previous(start + i))));
    batch.forEach((event, i) => {
      const all = [...order.faultsOf(event), ...faults[i]];
      if (event.user_id !== user) all.push(["user_id", "is another user's"]);
      for (const fault of all) findings.push([event.position, ...fault]);
    });
    told(start + batch.length);
  }
  findings.push(...uncovered(events));
  const last = events.at(-1);
  if ((last?.position ?? 0) !== head.position) {
    const what = `the head is at ${head.position}, the last event at ${last?.position ?? 0}`;
    findings.push([head.position, "head", what]);
  } else if (last && last.hash !== head.hash) {
    findings.push([head.position, "head", "the head's hash is not the last event's"]);
  }
  return findings.sort((a, b) => a[0] - b[0]);
}
