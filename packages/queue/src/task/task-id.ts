import { randomFillSync } from "node:crypto";

const pool = new Uint8Array(4096);
let used = pool.length;

const hex: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/**
 * A new task id: UUID version 7 (RFC 9562), 48 bits of milliseconds and 74 of chance. Made where the task is
 * enqueued, so that its name is known before the store has answered; ids of one millisecond have no order.
 */
export function newTaskId(): string {
  if (used + 10 > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const at = used;
  used += 10;
  const time = Date.now().toString(16).padStart(12, "0");
  const a = 0x7000 | ((pool[at]! & 0x0f) << 8) | pool[at + 1]!;
  const variant = 0x80 | (pool[at + 2]! & 0x3f);
  let tail = "";
  for (let i = 4; i < 10; i++) tail += hex[pool[at + i]!];
  return `${time.slice(0, 8)}-${time.slice(8)}-${a.toString(16)}-${hex[variant]}${hex[pool[at + 3]!]}-${tail}`;
}

const form = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Whether a text can be a task's id at all. */
export function isTaskId(text: unknown): text is string {
  return typeof text === "string" && form.test(text);
}
