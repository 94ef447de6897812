/** What the tests in workerd have beside wrangler.toml's bindings. */
declare namespace Cloudflare {
  interface Env {
    /** The files of migrations/, applied by test/support/apply-migrations.ts before each test file. */
    TEST_MIGRATIONS: import("cloudflare:test").D1Migration[];
  }
}
