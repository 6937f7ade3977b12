import { isDigest } from '@sepia/base/digest';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { AccessItem } from '@sepia/cluster/api/access';
import { parseReference } from '@sepia/oci/route';
import type { Authorizer } from './authenticator.ts';
import type { UpstreamClient } from './upstream-client.ts';

/** Asks the upstream for something in somebody's name, as small as can be: that it answers shows that they may read it. */
export async function readItem(
  client: UpstreamClient,
  repository: RepositoryName,
  item: AccessItem,
  as: Authorizer,
  signal: AbortSignal,
): Promise<void> {
  if (item.kind === 'manifest')
    await client.headManifest({ repository, reference: parseReference(item.reference), as }, signal);
  else if (item.kind === 'blob' && isDigest(item.digest))
    await client.headBlob({ repository, digest: item.digest, as }, signal);
  else await client.listTags({ repository, n: 1, as }, signal);
}
