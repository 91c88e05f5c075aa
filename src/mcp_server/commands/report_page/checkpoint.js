// The checkpoint that covers this ledger, as mcp_server/evidence/checkpoint.py checks it: the event it
// signed is here, its leaf leads to the root in the note, and the key signed the note.

const HEAD_TAG = utf8.encode("tasktrail/head/v1\0");

const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

const nodeHash = (left, right) => sha256(joined(Uint8Array.of(1), left, right));

/** RFC 9162, 2.1.3.2: the root that an inclusion proof leads to. */
async function rootFrom(leaf, index, size, path) {
  let [at, last, root] = [index, size - 1, leaf];
  if (at > last) throw new TypeError("the proof is not for a tree of that size");
  for (const sibling of path) {
    if (last === 0) throw new TypeError("the proof is too long");
    if (at % 2 === 1 || at === last) {
      root = await nodeHash(sibling, root);
      while (at % 2 === 0 && at !== 0) [at, last] = [at / 2, Math.floor(last / 2)];
    } else {
      root = await nodeHash(root, sibling);
    }
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  if (last !== 0) throw new TypeError("the proof is too short");
  return root;
}

async function leafOf(user, position, hash) {
  const place = new DataView(new ArrayBuffer(8));
  place.setBigInt64(0, BigInt(position));
  const genesis = await sha256(joined(LEDGER_TAG, utf8.encode(user)));
  const leaf = joined(HEAD_TAG, genesis, new Uint8Array(place.buffer), fromHex(hash, 32));
  return sha256(joined(Uint8Array.of(0), leaf));
}

/** What a note says, and the signature on it by its own key. */
function readNote(note) {
  const end = note.lastIndexOf("\n\n");
  const text = note.slice(0, end + 1);
  const said = /^([^\n]+)\n(\d+)\n([A-Za-z0-9+/]{43}=)\nnumber (\d+)\ntime ([^\n]+)\nprevious [0-9a-f]{64}\n(restored \d+ [0-9a-f]{64}\n)?(access \d+ [A-Za-z0-9+/]{43}=\n)?$/.exec(text);
  if (end < 0 || !said) throw new TypeError("it is no checkpoint");
  const [, origin, size, root, count, time] = said;
  const lines = note.slice(end + 2).split("\n").filter(Boolean).map((line) => line.split(" "));
  const signatures = lines.filter(([, name]) => name === origin).map(([, , signature]) => fromBase64(signature));
  return { text, origin, size: Number(size), root: toHex(fromBase64(root)), number: Number(count), time, signatures };
}

/** Whether `key` (name+id+base64) signed the note; null where this browser cannot tell. */
async function isSigned({ text, origin, signatures }, key) {
  const parts = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(key);
  const raw = fromBase64(parts[3]).slice(1);
  const id = (await sha256(joined(utf8.encode(`${parts[1]}\n`), Uint8Array.of(1), raw))).slice(0, 4);
  const signature = signatures.find((each) => toHex(each.slice(0, 4)) === toHex(id));
  if (parts[1] !== origin || parts[2] !== toHex(id) || !signature) return false;
  let imported;
  try {
    imported = await crypto.subtle.importKey("raw", raw, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return null;
  }
  return crypto.subtle.verify({ name: "Ed25519" }, imported, signature.slice(4), utf8.encode(text));
}

/** Check the checkpoint of a page. Returns what it says, and what is wrong: [[position, field, what]]. */
async function verifyCheckpoint(user, hashAt, { note, key, proof }) {
  const findings = [];
  const fault = (what) => findings.push([proof.position, "checkpoint", what]);
  try {
    const said = readNote(note);
    const signed = await isSigned(said, key);
    if (signed === false) fault("is not signed by the key beside it");
    const leaf = await leafOf(user, proof.position, proof.hash);
    const root = await rootFrom(leaf, proof.index, proof.size, proof.path.map((each) => fromHex(each, 32)));
    if (proof.size !== said.size || toHex(root) !== said.root) fault("does not have this ledger's head in it");
    if (hashAt(proof.position) !== proof.hash) fault("signed another event at this position");
    return { ...said, signed, findings };
  } catch (error) {
    fault(`cannot be read: ${error.message}`);
    return { findings };
  }
}
