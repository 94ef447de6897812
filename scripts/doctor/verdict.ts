/** What a check of `moorage doctor` comes to. */

export type Outcome = "ok" | "warning" | "failed" | "skipped";

export interface Finding {
  readonly check: string;
  readonly outcome: Outcome;
  /** What a registry should do; null where it did, or was not asked. */
  readonly expected: string | null;
  /** What it did; where it was not asked, why not. */
  readonly seen: string;
  /** What to do about it. */
  readonly mend: string | null;
}

interface Fault {
  readonly expected: string;
  readonly seen: string;
  readonly mend: string;
}

/** Ends a check: some client, or what somebody wants of the registry, fails on this. */
export class Failed extends Error {
  readonly fault: Fault;

  constructor(fault: Fault, options: ErrorOptions = {}) {
    super(fault.seen, options);
    this.fault = fault;
  }
}

/** Ends a check: clients get on with it, but it is not as it should be. */
export class Warned extends Error {
  readonly fault: Fault;

  constructor(fault: Fault) {
    super(fault.seen);
    this.fault = fault;
  }
}

/** Ends a check: it could not be made; the message says why. */
export class Skipped extends Error {}
