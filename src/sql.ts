import { SQL_VALUE_CHARACTERS } from "./limits.ts";

/** A condition for an `INSERT … SELECT … WHERE`; its parameters come first, from ?1 on. */
export interface SqlCondition {
  readonly sql: string;
  readonly values: readonly (string | number | null)[];
}

/** Texts of JSON as arrays for `json_each`, as many as it takes for D1 to take each as a value. */
export function jsonArrays(texts: readonly string[]): string[] {
  const arrays: string[] = [];
  let entries: string[] = [];
  let characters = 0;
  const flush = (): void => {
    if (entries.length > 0) arrays.push(`[${entries.join(",")}]`);
    [entries, characters] = [[], 0];
  };
  for (const text of texts) {
    if (characters + text.length > SQL_VALUE_CHARACTERS) flush();
    entries.push(text);
    characters += text.length + 1;
  }
  flush();
  return arrays;
}
