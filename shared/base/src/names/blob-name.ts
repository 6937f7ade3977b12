import type { Digest } from '../digest.ts';
import type { ResolvedName } from './upstream-name.ts';

/** A blob under a repository of an upstream: a link of that repository must name it before it is served. */
export interface BlobName extends ResolvedName {
  readonly digest: Digest;
}

/** What a link is remembered by in memory. Not on disk, not on the ring: those have bytes of their own. */
export function linkKey(name: {
  readonly upstream: string;
  readonly repository: string;
  readonly digest: string;
}): string {
  return `${name.upstream}\n${name.repository}\n${name.digest}`;
}
