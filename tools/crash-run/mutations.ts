/**
 * Defects of the product, each a replacement of text in one of its files. SQL routines are changed in the test database
 * only, TypeScript in a copied tree. A text that is no longer found means that the code moved on and the defect has to
 * be written anew: that fails the run like a survivor does.
 */
import type { Invariant } from "../check-history/report.ts";

/** A replacement of text that stands once in a file. Any run of white space in `find` matches any other. */
export interface Edit {
  /** Relative to packages/queue/src. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/**
 * One defect and the invariants any of which may catch it. More than one edit where two guards stand behind each other:
 * with either of them in place the promise still holds.
 */
export interface Mutation {
  readonly name: string;
  readonly edits: readonly Edit[];
  readonly caughtBy: readonly Invariant[];
}

/** The text with an edit made; undefined when what it replaces is not there exactly once. */
export function applyEdit(text: string, edit: Edit): string | undefined {
  const words = edit.find.trim().split(/\s+/);
  const pattern = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("\\s+");
  const found = [...text.matchAll(new RegExp(pattern, "g"))];
  const [match] = found;
  if (match === undefined || found.length > 1) return undefined;
  return text.slice(0, match.index) + edit.replace + text.slice(match.index + match[0].length);
}

const routine = (name: string): string => `store/routines/${name}.sql`;

/** All defects. */
export const mutations: readonly Mutation[] = [
  {
    name: "the end of an attempt ignores its fence, and a worker reports what it lost",
    edits: [
      {
        file: "worker/starter.ts",
        find: "if (begun.attempt.dropped)",
        replace: "if (begun.attempt.dropped && grant.fence < 0)",
      },
      {
        file: routine("settle"),
        find: "WHERE r.task_id = g.id AND r.fence = g.fence",
        replace: "WHERE r.task_id = g.id",
      },
    ],
    caughtBy: ["Q3"],
  },
  {
    name: "recovery gives tokens back",
    edits: [
      {
        file: routine("workers"),
        find: "PERFORM give_back(v_queue, v_back, v_now);",
        replace:
          "PERFORM give_back(v_queue, v_back, v_now); UPDATE limits l SET tat_us = l.tat_us - v_ended * l.interval_num / l.interval_den WHERE l.id = v_queue.limit_id;",
      },
    ],
    caughtBy: ["RL1", "RL1b"],
  },
  {
    name: "a claim charges one start less than it grants",
    edits: [
      {
        file: routine("claim"),
        find: "+ d.n * l.interval_num) / l.interval_den",
        replace: "+ (d.n - 1) * l.interval_num) / l.interval_den",
      },
    ],
    caughtBy: ["RL1", "RL1b"],
  },
  {
    name: "a burst is one more than allowed",
    edits: [
      {
        file: routine("schedule"),
        find: "v_slack bigint := ((COALESCE(p_limit.burst, 1) - 1) * v_num)",
        replace: "v_slack bigint := (COALESCE(p_limit.burst, 1) * v_num)",
      },
    ],
    caughtBy: ["RL1", "RL1b"],
  },
  {
    name: "the rate of a partition is not charged",
    edits: [
      {
        file: routine("claim"),
        find: "tat_us = CASE WHEN v_paced AND s.n > 0 THEN s.tat ELSE l.tat_us END,",
        replace: "tat_us = l.tat_us,",
      },
    ],
    caughtBy: ["RL1", "RL1b"],
  },
  {
    name: "a grant has no end",
    edits: [
      {
        file: "worker/starter.ts",
        find: "if (now > span.untilUs || !this.#host.holdsLease(now))",
        replace: "if (now < 0)",
      },
    ],
    caughtBy: ["RL1", "Q4"],
  },
  {
    name: "a worker starts by its own wall clock",
    edits: [
      {
        file: "worker/store-clock.ts",
        find: "const fromUs = storeUs + this.#upperUs;",
        replace:
          "const skewUs = (process.pid % 3) * 150_000; const fromUs = storeUs + this.#upperUs + skewUs;",
      },
      {
        file: "worker/store-clock.ts",
        find: "untilUs: storeUs + this.#lowerUs - drift + latenessUs",
        replace: "untilUs: storeUs + this.#lowerUs - drift + latenessUs + skewUs",
      },
    ],
    caughtBy: ["RL1"],
  },
  {
    name: "retries are not written to the ledger",
    edits: [
      {
        file: routine("claim"),
        find: "FROM granted g WHERE p_limit.id IS NOT NULL OR v_paced HAVING count(*) > 0",
        replace:
          "FROM granted g WHERE (p_limit.id IS NOT NULL OR v_paced) AND g.attempt = 0 HAVING count(*) > 0",
      },
    ],
    caughtBy: ["Q6"],
  },
  {
    name: "a partition runs one task too many",
    edits: [
      {
        file: routine("claim"),
        find: "count(*)::integer AS n FROM runs r WHERE",
        replace: "GREATEST(count(*) - 1, 0)::integer AS n FROM runs r WHERE",
      },
      {
        file: routine("claim-at-once"),
        find: "count(*)::integer AS n FROM runs r WHERE",
        replace: "GREATEST(count(*) - 1, 0)::integer AS n FROM runs r WHERE",
      },
    ],
    caughtBy: ["Q7"],
  },
  {
    name: "a queue runs one task too many",
    edits: [
      {
        file: routine("exchange"),
        find: "LEAST(v_room, v_queue.concurrency - ",
        replace: "LEAST(v_room, v_queue.concurrency + 1 - ",
      },
    ],
    caughtBy: ["Q7"],
  },
  {
    name: "the slots of a partition are a counter that never falls",
    edits: [
      {
        file: routine("claim"),
        find: "running = s.live,",
        replace: "running = GREATEST(s.live, l.running),",
      },
      {
        file: routine("claim-at-once"),
        find: "running = s.live,",
        replace: "running = GREATEST(s.live, l.running),",
      },
    ],
    caughtBy: ["Q7", "Q9"],
  },
  {
    name: "a lane is read from its tail",
    edits: [
      {
        file: routine("schedule"),
        find: "ORDER BY t.seq LIMIT c.room",
        replace: "ORDER BY t.seq DESC LIMIT c.room",
      },
    ],
    caughtBy: ["Q2", "Q9"],
  },
  {
    name: "places in a lane are given last first",
    edits: [
      {
        file: routine("enqueue"),
        find: "SELECT g.id, l.id, l.tail - g.n + g.place, p_queue, 'w', g.max, v_now, g.name, g.input",
        replace: "SELECT g.id, l.id, l.tail - g.place + 1, p_queue, 'w', g.max, v_now, g.name, g.input",
      },
    ],
    caughtBy: ["Q8"],
  },
  {
    name: "leases that ran out are never looked for",
    edits: [
      {
        file: routine("workers"),
        find: "v.until_us < now_us()",
        replace: "v.until_us < now_us() - 3600000000",
      },
    ],
    caughtBy: ["Q10"],
  },
  {
    name: "a lease ends before its time",
    edits: [
      {
        file: routine("workers"),
        find: "v.until_us < now_us()",
        replace: "v.until_us < now_us() + 800000",
      },
    ],
    caughtBy: ["Q5", "Q7"],
  },
  {
    name: "a retry's timer is lost",
    edits: [
      {
        file: routine("settle"),
        find: "WHERE g.kind IN (1, 4) AND g.id = ANY (v_ended)",
        replace: "WHERE g.kind IN (4) AND g.id = ANY (v_ended)",
      },
    ],
    caughtBy: ["Q2"],
  },
  {
    name: "an idempotency key is forgotten at once",
    edits: [
      {
        file: routine("enqueue-unique"),
        find: "WHERE i.expires_us <= v_now;",
        replace: "WHERE true;",
      },
    ],
    caughtBy: ["Q1"],
  },
  {
    name: "an enqueue is acknowledged before it is stored",
    edits: [
      {
        file: "queue/enqueue-batch.ts",
        find: "await this.#store.taskEnqueue(",
        replace:
          "for (const pending of batch) pending.resolve(); await new Promise((done) => setTimeout(done, 100)); await this.#store.taskEnqueue(",
      },
    ],
    caughtBy: ["Q1"],
  },
  {
    name: "a recorded step runs again",
    edits: [
      {
        file: "step/steps.ts",
        find: "if (recorded !== undefined) return decodePayload(recorded) as Result;",
        replace: "",
      },
    ],
    caughtBy: ["Q15"],
  },
  {
    name: "a step is recorded without a lease",
    edits: [
      {
        file: routine("tasks"),
        find: "IF NOT FOUND THEN RETURN QUERY SELECT false, NULL::text; RETURN; END IF;",
        replace: "",
      },
    ],
    caughtBy: ["Q4", "Q15"],
  },
  {
    name: "a lane's count of waiting tasks drifts",
    edits: [
      {
        file: routine("claim"),
        find: "waiting = l.waiting - s.n,",
        replace: "waiting = l.waiting - LEAST(s.n, 1),",
      },
      {
        file: routine("claim-at-once"),
        find: "waiting = l.waiting - s.n,",
        replace: "waiting = l.waiting - LEAST(s.n, 1),",
      },
    ],
    caughtBy: ["Q22"],
  },
  {
    name: "cancelled tasks are missing from the counts",
    edits: [
      {
        file: routine("queues"),
        find: "WHERE t.queue_id = p_queue GROUP BY 1",
        replace: "WHERE t.queue_id = p_queue AND t.state <> 'c' GROUP BY 1",
      },
    ],
    caughtBy: ["Q22"],
  },
];
