/** What is given to a command, judged by the API's own schemas before anything is sent. */
import { InvalidArgumentError } from "commander";
import type { z } from "zod";
import { grantSchema } from "../../src/access/grants.ts";
import { zodReason } from "../../src/oci/errors.ts";

/** For an option or an argument that takes what the schema does. */
export function checked(schema: z.ZodType): (text: string) => string {
  return (text) => {
    const result = schema.safeParse(text);
    if (!result.success) throw new InvalidArgumentError(zodReason(result.error));
    return text;
  };
}

/** For an option that may be given more than once. */
export function checkedEach(schema: z.ZodType): (text: string, before: unknown) => string[] {
  const check = checked(schema);
  return (text, before) => [...(Array.isArray(before) ? before.map(String) : []), check(text)];
}

/** @param most bounds the number, from 1 on */
export function wholeNumber(most: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number < 1 || number > most) {
      throw new InvalidArgumentError(`it is not a whole number from 1 to ${String(most)}`);
    }
    return number;
  };
}

/** A TCP port; 0: any that is free. */
export function portNumber(text: string): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number > 65_535) {
    throw new InvalidArgumentError("it is not a whole number from 0 to 65535");
  }
  return number;
}

/** The option that every command has which takes grants. */
export const grantOption = {
  flags: "-g, --grant <pattern:rights>",
  each: checkedEach(grantSchema),
} as const;
