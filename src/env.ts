import type { Caller } from "./access/policy.ts";
import type { Requester } from "./requester.ts";
import type { RepositoryName } from "./oci/repository.ts";
import type { Trace } from "./trace/trace.ts";

/** What every handler has: the bindings, and what the middleware in app.ts set for this request. */
export interface AppEnv {
  Bindings: Env;
  Variables: {
    requestId: string;
    trace: Trace;
    /** Set by `access(right)`, for the request's line in the log; where that has not been reached, nobody knows. */
    endpoint?: string;
    /** the answer was made with what every answer says (edge/stamp.ts) */
    isStamped?: boolean;
    repository?: RepositoryName;
    caller?: Caller;
  };
}

/** What a handler of a repository's route has besides, set by `access(right)` on its line. */
export interface RepositoryEnv extends AppEnv {
  Variables: AppEnv["Variables"] & {
    repository: RepositoryName;
    requester: Requester;
    /** What else the caller may do: a mount asks for its source, the catalogue for what it may list. */
    caller: Caller;
  };
}
