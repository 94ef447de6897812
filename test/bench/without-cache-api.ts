import registry from "../../src/index.ts";

export { UploadSession } from "../../src/uploads/session.ts";

/**
 * The registry without a Cache API: locally that is a Worker in the same process, whose memory can't be told from the
 * registry's own.
 */
const nothing = { match: async () => undefined, put: async () => undefined, delete: async () => false };

Object.defineProperty(globalThis, "caches", { value: { open: async () => nothing } });

export default registry;
