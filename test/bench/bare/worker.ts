import { getBlob, getObject, headBlob } from "./blobs.ts";
import { answer, hello, write } from "./floor.ts";
import { getCache, getMemory, putCache, putMemory } from "./caches.ts";
import { getManifest, headManifest, putManifestRows } from "./manifests.ts";
import { listReferrersAtOnce } from "./referrers.ts";
import { beginUpload, putBlob, putObject } from "./uploads.ts";

/** What a handler is told by the path `/<route>/<reference>/<repository>`; nothing is checked. */
export interface BareRequest {
  readonly request: Request;
  readonly env: Env;
  readonly reference: string;
  readonly repository: string;
}

export type BareHandler = (bare: BareRequest) => Promise<Response> | Response;

/**
 * The least that the platform needs for what the registry does: its SQL, its R2 operations, its bytes, nothing else. No
 * framework, no check of the input, no header that the row does not need. It serves a copy of the registry's own state.
 */
const handlers: Readonly<Record<string, BareHandler>> = {
  "GET hello": hello,
  "HEAD hello": hello,
  "GET answer": answer,
  "HEAD answer": answer,
  "POST writes": write,
  "GET manifest": getManifest,
  "HEAD manifest": headManifest,
  "PUT manifest": putManifestRows,
  "GET blob": getBlob,
  "HEAD blob": headBlob,
  "POST upload": beginUpload,
  "PUT upload": putBlob,
  "PUT object": putObject,
  "GET object": getObject,
  "PUT memory": putMemory,
  "GET memory": getMemory,
  "PUT cache": putCache,
  "GET cache": getCache,
  "GET referrers": listReferrersAtOnce,
};

export default {
  async fetch(request, env) {
    const [, route = "", reference = "", ...repository] = new URL(request.url).pathname.split("/");
    const handler = handlers[`${request.method} ${route}`];
    if (handler === undefined) return new Response("no such route", { status: 404 });
    return handler({ request, env, reference, repository: repository.join("/") });
  },
} satisfies ExportedHandler<Env>;

// wrangler.toml names the class: without it the bindings of the registry could not be used as they are.
export { UploadSession } from "../../../src/uploads/session.ts";
