// What every client does: agree on the revision it was told, list, add, find, fail, undo, read.
import assert from "node:assert/strict";

export async function tour(client, agreed, revision) {
  assert.equal(agreed, revision);
  const { tools } = await client.listTools();
  assert.equal(tools.length, 14);
  const call = async (name, args) => (await client.callTool({ name, arguments: args })).structuredContent;
  const added = await call("add_task", { title: "Buy milk", due: "2026-12-01", tags: ["home"] });
  assert.equal(added.status, "created");
  const { tasks } = await call("list_tasks", { query: "milk" });
  assert.equal(tasks[0].id, added.task_id);
  const failed = await client.callTool({ name: "get_task", arguments: { task_id: 999999 } });
  assert.equal(failed.isError, true);
  assert.equal(failed.structuredContent.code, "not_found");
  const undone = await call("undo", { position: added.position });
  assert.equal(undone.undone[0].position, added.position);
  const { prompts } = await client.listPrompts();
  assert.equal(prompts.length, 2);
  const { contents } = await client.readResource({ uri: `task://${added.task_id}` });
  assert.equal(JSON.parse(contents[0].text).deleted, true);
  await client.close();
  console.log("ok");
}
