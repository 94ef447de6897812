/** What was asked for was not done: the registry refused it, could not be reached, or is none. Told as one line. */
export class Refusal extends Error {}
