/** The Worker's source as the modules that workerd loads. */
import { builtinModules } from "node:module";
import path from "node:path";
import { build } from "esbuild";

export type WorkerModule =
  | { type: "ESModule"; path: string; contents: string }
  | { type: "CompiledWasm"; path: string; contents: Uint8Array };

export interface Bundle {
  /** Absolute path that the modules' own paths lie under; nothing is written there. */
  root: string;
  /** The entry first, as Miniflare wants it. */
  modules: readonly WorkerModule[];
}

/**
 * Bundles with the settings of `wrangler deploy` as far as this project's source needs them: its polyfills of Node's
 * modules are left out, since `node:crypto` and its like are workerd's own.
 */
export async function bundleWorker(main: string, define: Readonly<Record<string, string>>): Promise<Bundle> {
  const root = path.join(path.dirname(main), "bundle");
  const { outputFiles } = await build({
    entryPoints: { index: main },
    outdir: root,
    write: false,
    bundle: true,
    format: "esm",
    target: "es2024",
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*", "node:*", ...builtinModules],
    // workerd does not compile WebAssembly from bytes at run time: it must arrive as a module of its own.
    loader: { ".wasm": "copy" },
    define: { "process.env.NODE_ENV": '"production"', ...define },
    sourcemap: "inline",
    logLevel: "error",
  });
  const modules = outputFiles.map((file): WorkerModule =>
    file.path.endsWith(".wasm")
      ? { type: "CompiledWasm", path: file.path, contents: file.contents }
      : { type: "ESModule", path: file.path, contents: file.text },
  );
  const entry = path.join(root, "index.js");
  return {
    root,
    modules: modules.toSorted((a, b) => Number(b.path === entry) - Number(a.path === entry)),
  };
}
