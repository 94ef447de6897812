/** What global-setup.ts tells the tests. */
export interface Provided {
  /** base URL of the registry under test, without a slash at its end */
  registryUrl: string;
  /** the header of somebody who may do everything there; null: nobody has to log in */
  registryAuthorization: string | null;
}

declare module "vitest" {
  interface ProvidedContext extends Provided {}
}
