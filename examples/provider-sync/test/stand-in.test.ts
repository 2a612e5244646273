/** The stand-in API over real HTTP, and as the process of its own that the demo makes of it. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startStandInProcess } from "../src/child-processes.ts";
import { dataTypes, providers } from "../src/providers.ts";
import { type CutNotice, type MeterReport, type StandIn, startStandIn } from "../src/stand-in/server.ts";

const noWatcher = { arrival: () => {}, cut: () => {} };

function call(url: string, path: string, key = "k", signal?: AbortSignal): Promise<Response> {
  return fetch(`${url}${path}`, {
    headers: { "Idempotency-Key": key },
    ...(signal !== undefined && { signal }),
  });
}

describe("stand-in API", () => {
  let standIn: StandIn;
  let onCut: (cut: CutNotice) => void = () => {};

  beforeEach(async () => {
    const watcher = { arrival: () => {}, cut: (cut: CutNotice) => onCut(cut) };
    standIn = await startStandIn({ providers, dataTypes, latencyMs: [1, 2] }, watcher);
  });
  afterEach(() => standIn.close());

  it("serves two user requests at once and answers the third with 429 and Retry-After", async () => {
    const paths = ["aws", "azure", "gcp"].map((provider) => `/provider/${provider}/data_type/users?n=1`);
    const answers = await Promise.all(paths.map((path, index) => call(standIn.url, path, `k${index}`)));
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 200, 429]);
    expect(answers.find((answer) => answer.status === 429)?.headers.get("Retry-After")).toBe("1");
    const report = (await (await fetch(`${standIn.url}/meter`)).json()) as MeterReport;
    expect(report.dataTypes[0]).toMatchObject({
      dataType: "users",
      requests: 3,
      distinct: 2,
      refused: 1,
      worstWindow: 3,
    });
  });

  it("tells a repeated request by its key", async () => {
    const path = "/provider/gcp/data_type/permissions?n=5";
    await call(standIn.url, path, "same");
    const again = await call(standIn.url, path, "same");
    expect(await again.json()).toEqual({ provider: "gcp", data_type: "permissions", n: 5, repeated: true });
  });

  it("tells when a caller went away before its answer", async () => {
    await standIn.close();
    const cut = new Promise<CutNotice>((resolve) => {
      onCut = resolve;
    });
    const arrived = Promise.withResolvers<void>();
    const watcher = { arrival: () => arrived.resolve(), cut: (notice: CutNotice) => onCut(notice) };
    standIn = await startStandIn({ providers, dataTypes, latencyMs: [60_000, 60_000] }, watcher);
    const controller = new AbortController();
    const answer = call(standIn.url, "/provider/aws/data_type/groups?n=2", "gone", controller.signal).catch(
      () => "aborted",
    );
    await arrived.promise;
    controller.abort();
    expect(await cut).toMatchObject({ dataType: "groups", provider: "aws", number: 2, key: "gone" });
    expect(await answer).toBe("aborted");
  });

  it.each([
    ["/provider/oracle/data_type/users?n=1", 404],
    ["/provider/aws/data_type/roles?n=1", 404],
    ["/provider/aws/data_type/users", 400],
    ["/provider/aws/data_type/users?n=0", 400],
    ["/nothing", 404],
  ])("refuses %s with %i and does not count it", async (path, status) => {
    expect((await call(standIn.url, path)).status).toBe(status);
    const report = (await (await fetch(`${standIn.url}/meter`)).json()) as MeterReport;
    expect(report.dataTypes.map(({ requests }) => requests)).toEqual([0, 0, 0]);
  });

  it("forgets on reset", async () => {
    await call(standIn.url, "/provider/aws/data_type/users?n=1");
    expect((await fetch(`${standIn.url}/meter/reset`, { method: "POST" })).status).toBe(200);
    const report = (await (await fetch(`${standIn.url}/meter`)).json()) as MeterReport;
    expect(report.dataTypes[0]?.requests).toBe(0);
  });
});

describe("stand-in process", () => {
  it("stamps marks on the clock of its meter, in order", async () => {
    const standIn = await startStandInProcess(noWatcher);
    const before = await standIn.mark();
    await call(standIn.url, "/provider/aws/data_type/users?n=1");
    const after = await standIn.mark();
    const report = (await (await fetch(`${standIn.url}/meter`)).json()) as MeterReport;
    const atUs = report.dataTypes[0]?.arrivals[0]?.atUs;
    expect(before).toBeLessThanOrEqual(atUs!);
    expect(atUs).toBeLessThanOrEqual(after);
    await standIn.stop();
  });

  it("exits when its parent is killed", async () => {
    const script = fileURLToPath(new URL("./stand-in-parent.ts", import.meta.url));
    const parent = spawn(process.execPath, [...process.execArgv, script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(parent.stdout, "data")) as [Buffer];
    const url = line.toString().trim();
    expect((await fetch(url)).status).toBe(200);
    parent.kill("SIGKILL");
    await once(parent, "exit");
    await expect
      .poll(() =>
        fetch(url).then(
          () => "answers",
          () => "gone",
        ),
      )
      .toBe("gone");
  });
});
