/** The secrets of registries under test, and the header that says them. */

export const adminPassword = "the administrator of a test";

/** As `openssl rand -base64 32` would print them. */
export const testSecrets = {
  ADMIN_PASSWORD: adminPassword,
  SIGNING_KEY: btoa("a key that signs tokens in tests"),
  TOKEN_KEY: btoa("a key that hashes tokens in them"),
} as const;

/** RFC 7617 */
export function basic(user: string, password: string): string {
  const bytes = new TextEncoder().encode(`${user}:${password}`);
  return `Basic ${btoa(String.fromCodePoint(...bytes))}`;
}

export const asAdmin = basic("admin", adminPassword);
