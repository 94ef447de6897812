import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect } from "vitest";
import { z } from "zod";
import { identify, isRunning, type ProcessIdentity } from "../../scripts/processes.ts";
import { asAdmin } from "../support/credentials.ts";
import { commandLine, type Registry } from "../support/registry.ts";
import { utf8 } from "../support/client.ts";
import { expectRefusal, repositoryOf, runNode, startTest } from "./start-test.ts";

describe("the lock", () => {
  startTest.for(["start", "dev"] as const)(
    "keeps a second npm start off the state of npm %s",
    async (command, { start, stateDir }) => {
      const first = await start({ command });
      const second = await runNode(commandLine({}, stateDir));
      expectRefusal(second, new RegExp(`^moorage: the state in ${stateDir} is in use by process ${first.pid} .*\n$`));
      expect(await statusOf(first)).toBe(200);
    },
  );

  startTest("keeps npm run dev off the state of npm start", async ({ start, stateDir }) => {
    const first = await start();
    const second = await runNode(commandLine({ command: "dev" }, stateDir));
    expectRefusal(second, new RegExp(`is in use by process ${first.pid} \\(npm start\\)`));
  });

  startTest("is given back by a stop in order", async ({ start, stateDir }) => {
    const registry = await start();
    const workerds = await lockedWorkerds(stateDir);
    expect(workerds.map(isRunning)).toEqual([true]);
    await registry.stop();
    await expect(readFile(path.join(stateDir, "lock"))).rejects.toThrow("ENOENT");
    expect(workerds.map(isRunning)).toEqual([false]);
  });

  startTest.for(["start", "dev"] as const)(
    "lets a start end the orphans of an npm %s that was killed, and nothing is lost",
    async (command, { start, stateDir }) => {
      const killed = await start({ command });
      const blob = await repositoryOf(killed).pushBlob(utf8("pushed before the kill"));
      const orphans = await lockedWorkerds(stateDir);
      await kill(killed);
      expect(orphans.every(isRunning)).toBe(true);

      const next = await start({ port: killed.port });
      for (const { pid } of orphans) expect(next.output()).toContain(`ending workerd ${pid}`);
      expect(orphans.some(isRunning)).toBe(false);
      expect(await (await repositoryOf(next).getBlob(blob.digest)).text()).toBe("pushed before the kill");
      expect((await repositoryOf(next).pushBlob(utf8("pushed after it"))).size).toBe(15);
    },
  );

  startTest("spares a process that was given an orphan's pid since", async ({ start, stateDir }) => {
    // This very process stands for the one that has the pid now: it started at another time than the lock says.
    const reused = { pid: process.pid, startedAt: "long ago" };
    await mkdir(stateDir);
    await writeLock(stateDir, { command: "npm start", owner: reused, workerds: [reused] });
    const registry = await start();
    expect(await statusOf(registry)).toBe(200);
  });

  startTest("spares a process that is no workerd", async ({ start, stateDir }) => {
    const bystander = identify(process.pid);
    if (bystander === null) throw new Error("a running process is found");
    await mkdir(stateDir);
    await writeLock(stateDir, {
      command: "npm start",
      owner: { ...bystander, startedAt: "long ago" },
      workerds: [bystander],
    });
    expect((await start()).output()).not.toContain("ending");
  });

  startTest("left empty by a power cut belongs to nobody", async ({ start, stateDir }) => {
    await mkdir(stateDir);
    await writeFile(path.join(stateDir, "lock"), "");
    expect((await start()).output()).toContain("ready");
  });

  startTest("names the workerd that took the place of one that crashed", async ({ start, stateDir }) => {
    const registry = await start();
    const [crashed] = await lockedWorkerds(stateDir);
    if (crashed === undefined) throw new Error("the lock names no workerd");
    process.kill(crashed.pid, "SIGKILL");
    const successor = async () => (await lockedWorkerds(stateDir)).filter((workerd) => workerd.pid !== crashed.pid);
    await expect.poll(successor, { timeout: 20_000 }).toHaveLength(1);
    expect((await successor()).every(isRunning)).toBe(true);
    await expect.poll(() => statusOf(registry), { timeout: 20_000 }).toBe(200);
  });
});

const processSchema = z.object({ pid: z.number(), startedAt: z.string() });
const lockSchema = z.object({ command: z.string(), owner: processSchema, workerds: z.array(processSchema) });

async function lockedWorkerds(stateDir: string): Promise<ProcessIdentity[]> {
  const lock = lockSchema.parse(JSON.parse(await readFile(path.join(stateDir, "lock"), "utf8")));
  return lock.workerds;
}

async function writeLock(stateDir: string, content: z.infer<typeof lockSchema>): Promise<void> {
  await writeFile(path.join(stateDir, "lock"), JSON.stringify(content));
}

/** Ends node alone, as the kernel does when memory is short; resolves when it is gone. */
async function kill(registry: Registry): Promise<void> {
  process.kill(registry.pid, "SIGKILL");
  await registry.stop();
}

/** 0 where nobody answers. */
async function statusOf(registry: Registry): Promise<number> {
  try {
    return (await fetch(`${registry.url}/v2/`, { headers: { Authorization: asAdmin } })).status;
  } catch {
    return 0;
  }
}
