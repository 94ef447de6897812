/** A condition for an `INSERT … SELECT … WHERE`; its parameters come first, from ?1 on. */
export interface SqlCondition {
  readonly sql: string;
  readonly values: readonly (string | number | null)[];
}
