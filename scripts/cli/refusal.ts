interface RefusalOptions extends ErrorOptions {
  readonly code?: string;
}

/** What was asked for was not done: the registry refused it, could not be reached, or is none. Told as one line. */
export class Refusal extends Error {
  /** The error code of the registry's answer, such as DENIED; null where it is not the registry that says so. */
  readonly code: string | null;

  constructor(message: string, { code, ...options }: RefusalOptions = {}) {
    super(message, options);
    this.code = code ?? null;
  }
}
