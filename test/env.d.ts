import type { D1Migration } from "cloudflare:test";

/** What the tests in workerd have beside wrangler.toml's bindings. */
declare global {
  namespace Cloudflare {
    interface Env {
      /** The files of migrations/, applied by test/support/apply-migrations.ts before each test file. */
      TEST_MIGRATIONS: D1Migration[];
    }
  }
}
