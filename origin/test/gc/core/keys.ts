import type { Digest } from '@sepia/base/digest';

export function linkKey(repository: string, digest: Digest): string {
  return `link ${repository} ${digest}`;
}

export function referrerKey(repository: string, subject: Digest, digest: Digest): string {
  return `referrer ${repository} ${subject} ${digest}`;
}
