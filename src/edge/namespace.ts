import { createHmac } from "node:crypto";

const known = new WeakMap<object, string>();

/**
 * What stands before all that this registry keeps in the data centre's cache. Workers of one account may share a cache:
 * without it what one registry's readers pulled, another one would believe to have. It can't be guessed, and says
 * nothing of the secret that it is made with.
 */
export function namespaceOf(env: Pick<Env, "TOKEN_KEY">): string {
  const made = known.get(env);
  if (made !== undefined) return made;
  const namespace = createHmac("sha256", env.TOKEN_KEY).update("edge cache").digest("hex");
  known.set(env, namespace);
  return namespace;
}
