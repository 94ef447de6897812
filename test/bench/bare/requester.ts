import type { Requester } from "../../../src/requester.ts";

/** Nobody was asked who it is: that is work that the bare Worker leaves out. */
export function bare(): Requester {
  return { principal: { name: "bare", tokenId: null }, address: null, requestId: crypto.randomUUID() };
}
