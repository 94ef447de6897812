import { registry } from "../../src/registry.ts";
import { type CountedEnv, countOperations } from "../support/counted-env.ts";

export { UploadSession } from "../../src/uploads/session.ts";

let counted: CountedEnv | null = null;

/** The registry over counted bindings. `GET /operation-counts` tells what was done since it was last asked. */
export default {
  async fetch(request, env, context) {
    counted ??= countOperations(env);
    if (new URL(request.url).pathname !== "/operation-counts") return registry.fetch(request, counted.env, context);
    const counts = Response.json(counted.counts);
    counted.reset();
    return counts;
  },
} satisfies ExportedHandler<Env>;
