import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from "miniflare";
import type { Bundle } from "./bundle.ts";
import type { Project } from "./project.ts";

export interface Place {
  /** wrangler's `<state>/v3`; each part of the platform has its own folder in it. */
  persistPath: string;
  host: string;
  /** TCP port; 0 for any free one, which `ready` then tells. */
  port: number;
  /** also on a socket of the Worker's own, without the one that Miniflare puts before it: for measurements */
  isDirect?: boolean;
}

/**
 * Serves a Worker with wrangler.toml's bindings. It answers from `ready` on: the migrations must be applied before.
 * @param secrets those that the project has no values of its own for
 */
export function openMiniflare(
  project: Project,
  bundle: Bundle,
  place: Place,
  secrets: Readonly<Record<string, string>>,
): Miniflare {
  const { bindings, ...options } = project.workerOptions;
  return new Miniflare({
    ...convertV4MiniflareOptions({
      ...options,
      bindings: { LOCAL_RUN: "1", ...secrets, ...bindings },
      name: project.name,
      modules: [...bundle.modules],
      modulesRoot: bundle.root,
      host: place.host,
      port: place.port,
      // The default fetches a sample of request.cf from the network.
      cf: false,
      ...(place.isDirect === true ? { unsafeDirectSockets: [{ host: place.host, port: 0 }] } : {}),
      log: new Log(LogLevel.WARN),
      logRequests: false,
    }),
    // Not among the options that are converted: there it is dropped in silence, and nothing is kept.
    resourcePersistencePath: place.persistPath,
  });
}
