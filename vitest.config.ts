import { availableParallelism } from "node:os";
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { testSecrets } from "./test/support/credentials.ts";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";

/** Generous, for a busy machine: a test that waits for something that does not come has failed either way. */
const timeouts = { testTimeout: 30_000, hookTimeout: 90_000 };

/** Tests that run in workerd, beside the Worker, with wrangler.toml's bindings; each takes repository names of its own. */
function inWorkerd(name: string): TestProjectInlineConfiguration {
  return {
    plugins: [
      cloudflareTest(async () => ({
        wrangler: { configPath: "./wrangler.toml" },
        miniflare: {
          // The default fetches a sample of request.cf from the network.
          cf: false,
          bindings: { ...testSecrets, LOG_REQUESTS: "none", TEST_MIGRATIONS: await readD1Migrations("./migrations") },
        },
      })),
    ],
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      setupFiles: ["./test/support/apply-migrations.ts"],
      // Each isolated file starts a workerd of its own, which takes longer than most of them run.
      isolate: false,
      ...timeouts,
      testTimeout: 60_000,
    },
  };
}

/** Tests in Node that speak to a registry over a socket. */
function inNode(name: string, options: TestProjectInlineConfiguration["test"] = {}): TestProjectInlineConfiguration {
  return { test: { name, include: [`test/${name}/**/*.test.ts`], environment: "node", ...timeouts, ...options } };
}

export default defineConfig({
  test: {
    // Much of what the tests do is wait for another process, or for the next minute: two cores carry three files.
    maxWorkers: Math.max(3, availableParallelism() - 1),
    projects: [
      inWorkerd("unit"),
      inWorkerd("api"),
      inNode("conformance", { globalSetup: ["./test/conformance/global-setup.ts"] }),
      // A start waits for the next minute's cron, and starts the registry several times over.
      inNode("start", { testTimeout: 240_000 }),
      // Real programs, some of which keep a daemon and a store for the whole machine: one file at a time.
      inNode("clients", { fileParallelism: false, testTimeout: 600_000, hookTimeout: 600_000 }),
    ],
  },
});
