import { app } from "./app.ts";
import { runSchedule } from "./lifecycle/schedule.ts";

export { UploadSession } from "./uploads/session.ts";

export default { fetch: app.fetch, scheduled: runSchedule } satisfies ExportedHandler<Env>;
