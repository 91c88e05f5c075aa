// What the events come to: the state at any moment, and each event's before and after.
// The same folds as events/task.py and events/conversation.py. An erased event has no data; what
// it was about is then known only to exist.

const TASK_FIELDS = ["title", "description", "priority", "due", "tags", "completed", "deleted"];
const CONVERSATION_FIELDS = ["title", "deleted"];
const MESSAGE_FIELDS = ["role", "content", "metadata", "external_id", "deleted"];
const NO_TASK = { description: null, priority: null, due: null, tags: [], completed: false, deleted: false };
const NO_CONVERSATION = { title: null, deleted: false, messages: 0 };
const NO_MESSAGE = { metadata: null, external_id: null, deleted: false };

function evolveTask(task, event, data) {
  switch (event.type) {
    case "TaskCreated":
      return { ...NO_TASK, ...data, id: event.position, erased: event.body === null };
    case "TaskUpdated":
      return { ...task, ...data.changes };
    case "TaskCompleted":
      return { ...task, completed: true };
    case "TaskReopened":
      return { ...task, completed: false };
    case "TaskDeleted":
      return { ...task, deleted: true };
    case "TaskRestored":
      return { ...task, deleted: false };
    default:
      return task;
  }
}

function evolveConversation(talk, event, data) {
  switch (event.type) {
    case "ConversationCreated":
      return { ...NO_CONVERSATION, ...data, id: event.position, erased: event.body === null };
    case "ConversationDeleted":
      return { ...talk, deleted: true };
    case "ConversationRestored":
      return { ...talk, deleted: false };
    case "MessageAdded":
    case "MessageRestored":
      return { ...talk, messages: (talk.messages ?? 0) + 1 };
    case "MessageDeleted":
      return { ...talk, messages: (talk.messages ?? 0) - 1 };
    default:
      return talk;
  }
}

function evolveMessage(message, event, data) {
  switch (event.type) {
    case "MessageAdded":
      return {
        ...NO_MESSAGE, ...data, id: event.position, conversation: event.stream_id,
        at: event.recorded_at, erased: event.body === null,
      };
    case "MessageEdited":
      return { ...message, content: data.content, edited: event.recorded_at };
    case "MessageDeleted":
      return { ...message, deleted: true };
    case "MessageRestored":
      return { ...message, deleted: false };
    default:
      return message;
  }
}

const EMPTY = { position: 0, tasks: new Map(), talks: new Map(), messages: new Map() };

const copied = (state) => ({
  position: state.position,
  tasks: new Map(state.tasks),
  talks: new Map(state.talks),
  messages: new Map(state.messages),
});

const isData = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** Which message an event is about, undefined if about none. */
function messageOf(event, data) {
  if (event.type === "MessageAdded") return event.position;
  return event.type.startsWith("Message") ? data.message_id : undefined;
}

/** Apply one event to `state` in place; return what it changed: [[field, before, after]]. */
function apply(state, event) {
  const data = isData(event.body?.data) ? event.body.data : {};
  state.position = event.position;
  if (event.type === "LedgerErased") {
    state.tasks.clear();
    state.talks.clear();
    state.messages.clear();
    return [];
  }
  if (event.stream_type === "task") {
    const before = state.tasks.get(event.stream_id) ?? {};
    const after = evolveTask(before, event, data);
    state.tasks.set(event.stream_id, after);
    return differences(before, after, TASK_FIELDS);
  }
  const before = state.talks.get(event.stream_id) ?? {};
  const after = evolveConversation(before, event, data);
  state.talks.set(event.stream_id, after);
  const id = messageOf(event, data);
  if (id === undefined) return differences(before, after, CONVERSATION_FIELDS);
  const messageBefore = state.messages.get(id) ?? {};
  const messageAfter = evolveMessage(messageBefore, event, data);
  state.messages.set(id, messageAfter);
  return differences(messageBefore, messageAfter, MESSAGE_FIELDS);
}

const empty = (value) =>
  value === undefined || value === null || value === false || (Array.isArray(value) && value.length === 0);

function differences(before, after, fields) {
  return fields
    .filter((name) => !(empty(before[name]) && empty(after[name])))
    .filter((name) => JSON.stringify(before[name] ?? null) !== JSON.stringify(after[name] ?? null))
    .map((name) => [name, before[name], after[name]]);
}

/** Each event's changes and sentence; and the state after any, from copies kept on the way. */
class History {
  constructor(events) {
    this.events = events;
    this.kept = [EMPTY];
    this.changes = [];
    this.sentences = [];
    const state = copied(EMPTY);
    events.forEach((event, index) => {
      const changes = apply(state, event);
      this.changes.push(changes);
      this.sentences.push(sentence(event, state, changes));
      if ((index + 1) % 1000 === 0) this.kept.push(copied(state));
    });
    this.now = state;
    this.index = events.length;
  }

  /** The state after the first `count` events; it is only valid until the next call. */
  after(count) {
    const kept = Math.floor(count / 1000);
    if (count < this.index || count - this.index > 1000) {
      this.now = copied(this.kept[kept]);
      this.index = kept * 1000;
    }
    while (this.index < count) apply(this.now, this.events[this.index++]);
    return this.now;
  }
}

const quoted = (text) => (typeof text === "string" && text !== "" ? ` “${text}”` : "");

const ROLES = { user: "User", assistant: "Assistant", system: "System", tool: "Tool" };
const listed = (names) => names.join(", ").replace(/, ([^,]*)$/, " and $1");

/** What happened, in one line. `state` is that after the event. */
function sentence(event, state, changes) {
  const task = () => `task ${event.stream_id}${quoted(state.tasks.get(event.stream_id)?.title)}`;
  const talk = () => `conversation ${event.stream_id}${quoted(state.talks.get(event.stream_id)?.title)}`;
  const message = () => {
    const id = messageOf(event, event.body?.data ?? {});
    return `message ${id ?? ""}${quoted(state.messages.get(id)?.content?.slice?.(0, 160))}`;
  };
  switch (event.type) {
    case "TaskCreated": return `Added ${task()}`;
    case "TaskUpdated": return `Changed ${listed(changes.map(([name]) => name)) || "fields"} of ${task()}`;
    case "TaskCompleted": return `Completed ${task()}`;
    case "TaskReopened": return `Reopened ${task()}`;
    case "TaskDeleted": return `Deleted ${task()}`;
    case "TaskRestored": return `Restored ${task()}`;
    case "ConversationCreated": return `Began ${talk()}`;
    case "ConversationDeleted": return `Deleted ${talk()}`;
    case "ConversationRestored": return `Restored ${talk()}`;
    case "MessageAdded": return `${ROLES[event.body?.data?.role] ?? "Somebody"} wrote ${message()}`;
    case "MessageEdited": return `Edited ${message()}`;
    case "MessageDeleted": return `Deleted ${message()}`;
    case "MessageRestored": return `Restored ${message()}`;
    case "LedgerErased": return `Erased all words up to position ${event.body?.data?.through ?? "?"}`;
    default: return String(event.type);
  }
}

/** Which colour an event has in the timeline. */
function kindOf(event) {
  if (/Created|Added/.test(event.type)) return event.stream_type === "task" ? "new" : "talk";
  if (/Deleted|Erased/.test(event.type)) return "gone";
  if (/Completed/.test(event.type)) return "done";
  if (/Restored|Reopened/.test(event.type)) return "back";
  return "edit";
}
