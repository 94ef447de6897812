/** The `WWW-Authenticate` of a 401, RFC 9110 section 11.6.1: several may stand in one header. */

export interface Challenge {
  /** lower case */
  readonly scheme: string;
  /** by lower-case name */
  readonly parameters: ReadonlyMap<string, string>;
}

const parameter = /([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g;
const challenges = /([A-Za-z][\w-]*)(?:\s+((?:[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,"]+)\s*,?\s*)+)|\s*(?:,|$))/g;

export function parseChallenges(header: string): readonly Challenge[] {
  return [...header.matchAll(challenges)].map(([, scheme = "", list = ""]) => ({
    scheme: scheme.toLowerCase(),
    parameters: new Map(
      [...list.matchAll(parameter)].map(([, name = "", quoted, bare = ""]) => [
        name.toLowerCase(),
        quoted === undefined ? bare : quoted.replaceAll(/\\(.)/g, "$1"),
      ]),
    ),
  }));
}
