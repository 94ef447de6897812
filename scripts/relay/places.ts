/** A number of places that requests share; who finds too few waits in line. */
export class Places {
  #free: number;
  readonly #line: Claim[] = [];

  constructor(total: number) {
    this.#free = total;
  }

  /** Whether somebody waits. */
  get awaited(): boolean {
    return this.#line.length > 0;
  }

  /** Whether so many are to be had at once. */
  has(count: number): boolean {
    return this.#free >= count && !this.awaited;
  }

  /**
   * Resolves once the places are the caller's. Those who are urgent come first, each group in the order of asking; so
   * nobody waits for ever as long as all who have places give them back without getting more.
   * @param isUrgent asked again each time that places come free
   * @throws the signal's reason
   */
  async take(count: number, isUrgent: () => boolean, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.has(count)) {
      this.#free -= count;
      return;
    }
    const { promise, resolve, reject } = deferred();
    const claim: Claim = { count, isUrgent, grant: resolve };
    const leave = (): void => {
      this.#line.splice(this.#line.indexOf(claim), 1);
      reject(signal.reason instanceof Error ? signal.reason : new Error("the wait was given up"));
      // It may have been all that kept those behind it from being served.
      this.#serve();
    };
    signal.addEventListener("abort", leave, { once: true });
    this.#line.push(claim);
    this.#serve();
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  give(count: number): void {
    this.#free += count;
    this.#serve();
  }

  #serve(): void {
    for (;;) {
      const claim = this.#line.find(({ isUrgent }) => isUrgent()) ?? this.#line[0];
      // Whoever needs more than there are is not passed by: smaller claims could keep it waiting for good.
      if (claim === undefined || claim.count > this.#free) return;
      this.#line.splice(this.#line.indexOf(claim), 1);
      this.#free -= claim.count;
      claim.grant();
    }
  }
}

interface Claim {
  readonly count: number;
  readonly isUrgent: () => boolean;
  readonly grant: () => void;
}

interface Deferred {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (reason: Error) => void;
}

/** Promise.withResolvers, which Node 20 does not have. */
function deferred(): Deferred {
  let settle: Pick<Deferred, "resolve" | "reject"> = { resolve: () => {}, reject: () => {} };
  const promise = new Promise<void>((resolve, reject) => {
    settle = { resolve, reject };
  });
  return { promise, ...settle };
}
