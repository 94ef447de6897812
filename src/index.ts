import { registry } from "./registry.ts";
import { runSchedule } from "./lifecycle/schedule.ts";

export { UploadSession } from "./uploads/session.ts";

export default { fetch: registry.fetch, scheduled: runSchedule } satisfies ExportedHandler<Env>;
