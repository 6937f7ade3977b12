import { readFileSync } from 'node:fs';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { z } from 'zod';

const MEMBER = z.object({
  name: z.string(),
  /** Registry endpoint of agents and proxies, else the main listener. */
  url: z.string(),
  adminUrl: z.string(),
  peers: z.array(z.string()),
  pid: z.number().int(),
  log: z.string(),
  config: z.string(),
});

const CLUSTER_FILE = z.object({
  version: z.literal(1),
  upstreams: z.array(
    z.object({ name: z.string(), url: z.string().nullable(), hosts: z.array(z.string()), mode: z.string() }),
  ),
  proxies: z.array(MEMBER),
  trackers: z.array(MEMBER),
  origins: z.array(MEMBER),
  agents: z.array(MEMBER),
  accelerators: z.array(MEMBER).default([]),
  snapshotters: z.array(MEMBER).default([]),
});

/** What commands read that are not told another. */
export const USUAL_CLUSTER_FILE = './sepia-data/cluster.json';

/** `cluster.json`: there while the cluster is ready; it appears by rename and goes at start and stop. */
export type ClusterFile = z.infer<typeof CLUSTER_FILE>;
export type ClusterFileMember = z.infer<typeof MEMBER>;

/** `orElse`: what else names a cluster. @throws {CodedError} `CONFIG_INVALID` when it is not there or not one of ours */
export function readClusterFile(file: string, orElse = ''): ClusterFile {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throwIfBug(cause);
    const why =
      systemCode(cause) === 'ENOENT'
        ? `is not there: no cluster is ready here; start one with "sepia up" or name its file with --cluster${orElse}`
        : `cannot be read (${systemCode(cause)})`;
    throw new CodedError('CONFIG_INVALID', { message: `${file} ${why}`, cause });
  }
  try {
    return CLUSTER_FILE.parse(JSON.parse(text));
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', { message: `${file} is not a cluster.json`, cause });
  }
}

/** Members in the order in which they are shown, with their role. */
export function membersOf(cluster: ClusterFile): (ClusterFileMember & { role: string })[] {
  const of = (
    role: string,
    members: readonly ClusterFileMember[],
  ): (ClusterFileMember & { role: string })[] => members.map((member) => ({ ...member, role }));
  return [
    ...of('origin', cluster.origins),
    ...of('tracker', cluster.trackers),
    ...of('proxy', cluster.proxies),
    ...of('agent', cluster.agents),
    ...of('accelerator', cluster.accelerators),
    ...of('snapshotter', cluster.snapshotters),
  ];
}
