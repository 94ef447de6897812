import { app } from "./app.ts";
import { warmPull } from "./warm-pull.ts";

/** The registry as it is served: what is at hand is given out at once, all else goes the way of `app.ts`. */
export const registry = {
  fetch(this: void, request: Request, env: Env, context: ExecutionContext): Response | Promise<Response> {
    const answer = warmPull(request, env, context);
    if (answer instanceof Response) return answer;
    return answer === null
      ? app.fetch(request, env, context)
      : answer.then(async (late) => late ?? app.fetch(request, env, context));
  },
};
