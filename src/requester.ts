/** Who sent a request, as tag history, events and the audit name it. */
export interface Principal {
  /** `admin`, `user:<name>`, `oidc:<rule>:<subject>` or `anonymous`; the same over all credentials of one principal */
  readonly name: string;
  /** of the access token that it came with, or that its bearer was given for */
  readonly tokenId: string | null;
}

/** A request's sender, as the audit notes it. */
export interface Requester {
  readonly principal: Principal;
  /** IP address; null where the platform tells none */
  readonly address: string | null;
  readonly requestId: string;
}

export const anonymous: Principal = { name: "anonymous", tokenId: null };
export const administrator: Principal = { name: "admin", tokenId: null };
