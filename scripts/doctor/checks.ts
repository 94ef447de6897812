/** All that `moorage doctor` looks at, in its order: what comes before is what others stand on. */
import { clockChecks, connectionChecks } from "./connection-checks.ts";
import { deleteChecks } from "./delete-checks.ts";
import { errorChecks } from "./error-checks.ts";
import type { Check } from "./examination.ts";
import { loginChecks } from "./login-checks.ts";
import { listChecks, manifestPushChecks } from "./manifest-checks.ts";
import { readChecks } from "./read-checks.ts";
import { rightsChecks } from "./rights-checks.ts";
import { uploadChecks } from "./upload-checks.ts";

export const allChecks: readonly Check[] = [
  ...connectionChecks,
  ...loginChecks,
  ...clockChecks,
  ...errorChecks,
  ...rightsChecks,
  ...uploadChecks,
  ...manifestPushChecks,
  ...readChecks,
  ...listChecks,
  ...deleteChecks,
];
