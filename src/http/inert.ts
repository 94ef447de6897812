/**
 * For content that somebody pushed under a media type of their own choice: a browser that is led to it by a link runs
 * nothing of it, or a page among the artifacts could act here as the one who opened it.
 */
export const inert = {
  "Content-Security-Policy": "sandbox; default-src 'none'",
  "X-Content-Type-Options": "nosniff",
} as const;
