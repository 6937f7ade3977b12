import { readClusterKey } from '@sepia/base/config/load';
import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { steadyMs } from '@sepia/base/reach';
import { LastingNames } from '@sepia/http/names/lasting-names';
import type { MemberDialling } from '@sepia/http/sockets';
import { memberEncryption } from '@sepia/http/tls/cluster-encryption';
import { Cluster } from './cluster.ts';
import type { MemberRole } from './document.ts';
import { loadClusterDocument } from './load-document.ts';

/** What the start of every member, and `sepia config check`, ask of its config beyond its keys and values. */

/** The cluster and its key, from the files that a config names. @throws {CodedError} `CONFIG_INVALID` that names file and key */
export function readCluster(config: {
  readonly 'cluster-document': string;
  readonly 'cluster-key-file': string;
}): { readonly cluster: Cluster; readonly clusterKey: Uint8Array } {
  const cluster = new Cluster(loadClusterDocument(config['cluster-document']));
  return { cluster, clusterKey: readClusterKey(config['cluster-key-file']) };
}

/**
 * How members of a cluster are dialled: at each of their addresses in order, and encrypted as they are; names last. Made once by
 * each member: who listens, for calls or for peers, has the same encryption (undefined: none).
 */
export function diallingOf(cluster: Cluster, clusterKey: Uint8Array, log?: Logger): MemberDialling {
  return {
    encryption: memberEncryption(cluster.document.policies.encryption, clusterKey),
    lookup: new LastingNames({ nowMs: steadyMs, log }).lookup,
    furtherAddresses: (origin) => cluster.furtherUrls(origin),
  };
}

/** The configured id, if the cluster document has a member of this role by it. @throws {CodedError} `CONFIG_INVALID` */
export function checkedId(
  config: { readonly id?: string | undefined; readonly 'cluster-document': string },
  cluster: Cluster,
  role: MemberRole,
): string {
  const { id } = config;
  const article = /^[aeiou]/.test(role) ? 'an' : 'a';
  if (id === undefined)
    throw invalid(`id: is missing; ${article} ${role} needs the id that the cluster document gives it`);
  const member = cluster.findMember(id);
  const document = config['cluster-document'];
  if (member === undefined)
    throw invalid(`id: "${id}" is not in ${document}; add it as a member with role ${role}, or correct it`);
  if (member.role !== role) throw invalid(`id: "${id}" has role ${member.role} in ${document}, not ${role}`);
  return id;
}

/** Checks that the default upstreams of listeners are upstreams of the cluster. @throws {CodedError} `CONFIG_INVALID` */
export function checkDefaultUpstreams(
  listeners: readonly { readonly 'default-upstream'?: string | undefined }[],
  { upstreams }: Cluster,
): void {
  for (const [index, { 'default-upstream': name }] of listeners.entries()) {
    if (name === undefined || upstreams.some((one) => one.name === name)) continue;
    const known = upstreams.map((one) => one.name).join(', ');
    throw invalid(
      `listeners.${index}.default-upstream: no upstream "${name}" in the cluster document; it has ${known}`,
    );
  }
}

function invalid(message: string): CodedError {
  return new CodedError('CONFIG_INVALID', { message });
}
