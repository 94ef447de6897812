import type { Principal, Right } from "./access/policy.ts";
import type { RepositoryName } from "./oci/repository.ts";

/** What every handler has: the bindings, and what the middleware in app.ts set for this request. */
export interface AppEnv {
  Bindings: Env;
  Variables: { requestId: string };
}

/** What a handler of a repository's route has besides, set by `access(right)` on its line. */
export interface RepositoryEnv extends AppEnv {
  Variables: AppEnv["Variables"] & {
    repository: RepositoryName;
    principal: Principal;
    /** Whether the caller also has a right on another repository: a mount asks. */
    may: (right: Right, repository: RepositoryName) => boolean;
  };
}
