import { describe, expect, it } from "vitest";
import { dataTypes } from "./providers.ts";
import { buildReport, type DemoReport, type RunRecord, reportJson } from "./report.ts";
import { painter } from "./screen.ts";
import { Meter, type MeterLimit } from "./stand-in/meter.ts";
import type { CutNotice } from "./stand-in/server.ts";
import { tableLines } from "./table.ts";

const second = 1_000_000;
const providers = ["aws", "azure", "gcp"];
const plain = painter(false);

interface Sent {
  readonly at: number;
  readonly provider: string;
  readonly number: number;
}

/** `count` requests of one data type, evenly spaced in seconds, the providers in turn. */
function paced(count: number, spacing: number): Sent[] {
  return Array.from({ length: count }, (_, index) => ({
    at: index * spacing,
    provider: providers[index % 3]!,
    number: Math.floor(index / 3) + 1,
  }));
}

/** The record of a run in which these requests reached the API; what a test does not name went well. */
function record(sent: Record<string, Sent[]>, over: Partial<RunRecord> = {}): RunRecord {
  const limits = dataTypes.map(({ name, limit, periodMs }): [string, MeterLimit] => [
    name,
    { limit, periodUs: periodMs * 1000 },
  ]);
  const meter = new Meter(Object.fromEntries(limits));
  for (const { name } of dataTypes) {
    for (const { at, provider, number } of sent[name] ?? []) {
      meter.arrive(
        { dataType: name, provider, number, key: `${name} ${provider} ${number}` },
        5 * second + at * second,
      );
    }
  }
  return {
    engine: "embedded",
    workers: 1,
    killsPlanned: 0,
    kills: [],
    expectedPerQueue: 15,
    doneBefore: {},
    meter: { nowUs: 100 * second, dataTypes: meter.report(), stalls: [] },
    outcome: { succeeded: 3 * (over.expectedPerQueue ?? 15), failures: [] },
    notes: [],
    ...over,
  };
}

const good = { users: paced(15, 0.505), groups: paced(15, 2.51), permissions: paced(15, 3.34) };

function users(report: DemoReport): DemoReport["queues"][number] {
  return report.queues[0]!;
}

describe("report", () => {
  it("holds when every request came once, in order, at the allowed pace", () => {
    const report = buildReport(record(good));
    expect(report).toMatchObject({
      held: true,
      failures: [],
      expected: 45,
      distinct: 45,
      refused: 0,
      repeated: 0,
    });
    expect(users(report).achievedPercent).toBeCloseTo(99.01, 2);
    expect(users(report)).toMatchObject({ gapMinMs: 505, gapMaxMs: 505, worstWindow: 2, orderKept: true });
    expect(report.seconds).toBeCloseTo(14 * 3.34, 6);
  });

  it.each([
    ["a request is refused", { ...good, users: paced(15, 0.4) }, /429/],
    ["a queue is slow", { ...good, users: paced(15, 0.53) }, /94\.3 % of the allowed/],
    [
      "order is broken",
      { ...good, users: paced(15, 0.505).map((one) => ({ ...one, number: 9 - one.number })) },
      /order/,
    ],
    [
      "a request is sent twice",
      { ...good, users: [...paced(15, 0.505), { at: 7.575, provider: "gcp", number: 5 }] },
      /twice/,
    ],
  ])("does not hold when %s", (_what, sent, message) => {
    const report = buildReport(record(sent));
    expect(report.held).toBe(false);
    expect(report.failures.join("\n")).toMatch(message);
  });

  it("does not hold when requests are missing, a task failed, the run was stopped, or a kill did not take place", () => {
    const failures = (over: Partial<RunRecord>): string =>
      buildReport(record(good, over)).failures.join("\n");
    expect(failures({ expectedPerQueue: 16 })).toMatch(/15 of 16/);
    expect(failures({ outcome: { succeeded: 44, failures: ["no route"] } })).toMatch(
      /44 of 45 tasks.*no route/s,
    );
    expect(failures({ outcome: undefined })).toMatch(/stopped/);
    expect(failures({ killsPlanned: 3 })).toMatch(/0 of 3 kills/);
  });

  it("counts what an earlier run has done", () => {
    const doneBefore = { queue_users: 5, queue_groups: 5, queue_permissions: 5 };
    expect(buildReport(record(good, { expectedPerQueue: 20, doneBefore }))).toMatchObject({
      held: true,
      expected: 60,
      doneBefore: 15,
    });
  });

  it("measures the rate outside outages, which last until a call in flight was made again", () => {
    // Killed at 2.6 s with request 5 in flight (sent at 2.02); back at 4 s; sent again at 5 s; then the pace goes on.
    const pace = paced(15, 0.505);
    const rest = pace.slice(5).map((one) => ({ ...one, at: one.at + 2.98 }));
    const sent = { ...good, users: [...pace.slice(0, 5), { ...pace[4]!, at: 5 }, ...rest] };
    const cut: CutNotice = {
      dataType: "users",
      provider: "azure",
      number: 2,
      key: "users azure 2",
      caller: "worker-1",
      atUs: 0,
    };
    const kill = { worker: 1, atUs: 7.6 * second, backUs: 9 * second, cut: [cut] };
    const report = buildReport(record(sent, { kills: [kill], killsPlanned: 1 }));
    expect(users(report)).toMatchObject({ repeated: 1, distinct: 15, gapsInOutage: 1 });
    expect(users(report).achievedPercent).toBeCloseTo(99.01, 1);
    expect(report.kills).toEqual([
      {
        worker: 1,
        atS: 2.6,
        backAtS: 4,
        inFlight: [{ queue: "queue_users", provider: "azure", number: 2, answered: false }],
      },
    ]);
    expect(report).toMatchObject({ held: true, repeated: 1 });
    const text = tableLines(report, plain).join("\n");
    expect(text).toContain("    2.60 s       1      1.40 s  queue_users azure #2\n");
    expect(text).toContain("15 + 1");
  });

  it("lists a call that was answered but made again as in flight at the kill that followed it", () => {
    const pace = paced(15, 0.505);
    const sent = { ...good, users: [...pace, { ...pace[14]!, at: 12 }] };
    const kills = [
      { worker: 1, atUs: 8 * second, backUs: 9 * second, cut: [] },
      { worker: 1, atUs: 12.1 * second, backUs: 13 * second, cut: [] },
      { worker: 1, atUs: 16 * second, backUs: 16.5 * second, cut: [] },
    ];
    const report = buildReport(record(sent, { kills, killsPlanned: 3 }));
    const call = { queue: "queue_users", provider: "gcp", number: 5, answered: true };
    expect(report.kills.map(({ inFlight }) => inFlight)).toEqual([[], [call], []]);
    expect(tableLines(report, plain).join("\n")).toContain("queue_users gcp #5 (answered)");
  });

  it("does not hold when a request is sent twice and the only kill came before it", () => {
    const sent = { ...good, users: [...paced(15, 0.505), { at: 7.575, provider: "gcp", number: 5 }] };
    const kill = { worker: 1, atUs: 6 * second, backUs: 6.2 * second, cut: [] };
    expect(buildReport(record(sent, { kills: [kill], killsPlanned: 1 })).failures.join()).toMatch(
      /no kill explains/,
    );
  });

  it("shows a rate over a few gaps and does not judge it", () => {
    const sent = { ...good, users: paced(8, 0.6) };
    const doneBefore = { queue_users: 7 };
    const report = buildReport(record(sent, { doneBefore }));
    expect(users(report)).toMatchObject({ judged: false });
    expect(users(report).achievedPercent).toBeCloseTo(83.3, 1);
    expect(report.held).toBe(true);
    expect(tableLines(report, plain).join("\n")).toContain("fewer than 8 gaps");
    const judged = { ...good, users: paced(9, 0.6) };
    expect(buildReport(record(judged, { doneBefore: { queue_users: 6 } })).held).toBe(false);
  });

  it("says nothing about a rate it could not measure", () => {
    const doneBefore = { queue_users: 14 };
    const report = buildReport(record({ ...good, users: paced(1, 1) }, { doneBefore }));
    expect(users(report)).toMatchObject({ achievedPercent: null, gapMinMs: null });
    expect(report.held).toBe(true);
  });

  it("lists windows over the limit that touch a stall of the meter apart, and they still do not hold", () => {
    const over = record({ ...good, users: [...paced(3, 0.505), { at: 1.2, provider: "aws", number: 2 }] });
    const stalls = [{ fromUs: 5.9 * second, untilUs: 6.1 * second }];
    const meter = new Meter({ users: { limit: 2, periodUs: second } });
    for (const one of over.meter.dataTypes[0]!.arrivals)
      meter.arrive({ dataType: "users", ...one }, one.atUs);
    const dataTypesSeen = [...meter.report(stalls), ...over.meter.dataTypes.slice(1)];
    const report = buildReport({ ...over, meter: { ...over.meter, stalls, dataTypes: dataTypesSeen } });
    expect(users(report)).toMatchObject({ windowsOver: 1, windowsOverInStall: 1 });
    expect(report).toMatchObject({ held: false, meterStalls: { count: 1, longestMs: 200 } });
  });

  it("speaks snake_case to machines", () => {
    const json = JSON.parse(reportJson(buildReport(record(good)))) as Record<string, unknown>;
    expect(json).toMatchObject({ held: true, done_before: 0, meter_stalls: { count: 0, longest_ms: 0 } });
    expect(json["queues"]).toContainEqual(
      expect.objectContaining({ queue: "queue_users", gap_min_ms: 505, order_kept: true }),
    );
  });
});

describe("closing table", () => {
  it("reads like this", () => {
    expect(tableLines(buildReport(record(good)), plain)).toMatchInlineSnapshot(`
      [
        "",
        "──────────────────────────────────────────────────────────────────────────────",
        "Queue              Allowed  Requests  429  Achieved        Gaps (s)   Order",
        "──────────────────────────────────────────────────────────────────────────────",
        "queue_users        2/1s           15    0    99.0 %   0.505 – 0.505    kept",
        "queue_groups       2/5s           15    0    99.6 %   2.510 – 2.510    kept",
        "queue_permissions  3/10s          15    0    99.8 %   3.340 – 3.340    kept",
        "──────────────────────────────────────────────────────────────────────────────",
        "Held: 45 requests in 46.8 s, 0 refused, order kept.",
      ]
    `);
  });

  it("stays within 80 columns, whatever happened", () => {
    const cut: CutNotice = {
      dataType: "permissions",
      provider: "azure",
      number: 2,
      key: "k",
      caller: "worker-1",
      atUs: 0,
    };
    const kill = { worker: 1, atUs: 30 * second, backUs: 39.5 * second, cut: [cut] };
    const bad = { ...good, users: paced(15, 0.3) };
    for (const sent of [good, bad]) {
      const stalls = [{ fromUs: 0, untilUs: second }];
      const base = record(sent, { kills: [kill], workers: 3, killsPlanned: 1 });
      const lines = tableLines(buildReport({ ...base, meter: { ...base.meter, stalls } }), plain);
      for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(80);
    }
  });
});
