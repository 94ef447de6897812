/** Who wants places. */
export interface Claimant {
  /** Its address: those of one address take turns with those of others, however many they are. */
  readonly owner: string;
  /** Asked again each time that places come free. */
  readonly isUrgent: () => boolean;
}

/** A number of places that requests share; who finds too few waits in line. */
export class Places {
  #free: number;
  readonly #line: Claim[] = [];
  /** When each owner was served last while there was a line. */
  readonly #turns = new Map<string, number>();
  #turn = 0;

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
   * Resolves once the places are the caller's. Those who are urgent come first; in each group comes first whose owner was
   * served longest ago, and then whoever asked first. So nobody waits for ever as long as all who have places give them
   * back without getting more.
   * @throws the signal's reason; where it comes just after the places, they are the caller's nevertheless
   */
  async take(count: number, claimant: Claimant, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.has(count)) {
      this.#free -= count;
      return;
    }
    const { promise, resolve, reject } = deferred();
    const claim: Claim = { ...claimant, count, grant: resolve };
    const leave = (): void => {
      const at = this.#line.indexOf(claim);
      // Granted just now: the places are the caller's, who gives them back.
      if (at === -1) return;
      this.#line.splice(at, 1);
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
      const [claim] = this.#line.toSorted(
        (a, b) => Number(b.isUrgent()) - Number(a.isUrgent()) || this.#turnOf(a) - this.#turnOf(b),
      );
      if (claim === undefined) this.#turns.clear();
      // Whoever needs more than there are is not passed by: smaller claims could keep it waiting for good.
      if (claim === undefined || claim.count > this.#free) return;
      this.#line.splice(this.#line.indexOf(claim), 1);
      this.#free -= claim.count;
      this.#turn += 1;
      this.#turns.set(claim.owner, this.#turn);
      claim.grant();
    }
  }

  #turnOf({ owner }: Claim): number {
    return this.#turns.get(owner) ?? 0;
  }
}

interface Claim extends Claimant {
  readonly count: number;
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
