/** The Worker's source as the modules that workerd loads. */
import { builtinModules } from "node:module";
import path from "node:path";
import { build } from "esbuild";
import { z } from "zod";
import { UsageError } from "./options.ts";

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
 *
 * @param needed what `main` must export: without a class that wrangler.toml names, workerd starts and warns
 * @throws UsageError with the first mistake in the source, or what it does not export
 */
export async function bundleWorker(
  main: string,
  define: Readonly<Record<string, string>>,
  needed: readonly string[] = [],
): Promise<Bundle> {
  const root = path.join(path.dirname(main), "bundle");
  const { outputFiles, metafile } = await build({
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
    metafile: true,
    logLevel: "silent",
  }).catch((error: unknown) => {
    throw sourceRefusal(error);
  });
  const exported = new Set(Object.values(metafile.outputs).flatMap((output) => output.exports));
  const missing = needed.filter((name) => !exported.has(name));
  if (missing.length > 0) throw new UsageError(`${main} does not export ${missing.join(", ")}`);
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

const buildFailureSchema = z.object({
  errors: z.array(
    z.object({
      text: z.string(),
      location: z.object({ file: z.string(), line: z.number(), column: z.number() }).nullable(),
    }),
  ),
});

/** What esbuild found in the source, as one line; anything else stays as it is. */
function sourceRefusal(error: unknown): unknown {
  const [first, ...others] = buildFailureSchema.safeParse(error).data?.errors ?? [];
  if (first === undefined) return error;
  const place =
    first.location === null ? "" : `${first.location.file}:${first.location.line}:${first.location.column}: `;
  const more = others.length === 0 ? "" : ` (and ${others.length} more)`;
  return new UsageError(`${place}${first.text}${more}`, { cause: error });
}
