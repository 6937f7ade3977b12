/** What TLS says of certificates that nobody here vouches for. */
const CERTIFICATE = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
]);

/** The innermost reason of a failed connection, e.g. of its certificate. */
export function rootText(error: unknown): string {
  let root = error;
  while (root instanceof Error && root.cause !== undefined) root = root.cause;
  const text = root instanceof Error ? root.message : String(root);
  const code = (root as { readonly code?: unknown } | null)?.code;
  const hint = CERTIFICATE.has(String(code)) ? '; give its CA with --ca' : '';
  return `${typeof code !== 'string' || text.includes(code) ? text : `${text} (${code})`}${hint}`;
}
