import type { z } from "zod";

/**
 * What the Worker is given beside its bindings, settings and secrets, is parsed once an isolate.
 * @param failure of the first one that is missing or wrong; the reason has nothing of its value
 */
export function parsedOnce<T>(
  schema: z.ZodType<T>,
  failure: (name: string, reason: string) => Error,
): (env: object) => Readonly<T> {
  const parsed = new WeakMap<object, Readonly<T>>();
  return (env) => {
    const known = parsed.get(env);
    if (known !== undefined) return known;
    const result = schema.safeParse(env);
    if (!result.success) {
      const issue = result.error.issues[0];
      const name = String(issue?.path[0] ?? "");
      const isMissing = Reflect.get(env, name) === undefined;
      throw failure(name, isMissing ? "is not set" : (issue?.message ?? "is not valid"));
    }
    const values = Object.freeze(result.data);
    parsed.set(env, values);
    return values;
  };
}
