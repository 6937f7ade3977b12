import { type Digest, digestAlgorithm, digestHex } from '@sepia/base/digest';

/** Ends of the tags that cosign puts what it attaches under, and what that is. */
const KINDS = { sig: 'cosign signature', att: 'cosign attestation', sbom: 'cosign SBOM' } as const;

/** The tags under which cosign attaches to a manifest: `sha256-<hex>.sig`, `.att`, `.sbom`. */
export function cosignTags(digest: Digest): readonly { readonly tag: string; readonly what: string }[] {
  const stem = `${digestAlgorithm(digest)}-${digestHex(digest)}`;
  return Object.entries(KINDS).map(([end, what]) => ({ tag: `${stem}.${end}`, what }));
}
