import { CACHE_KEYS, COMMON_KEYS, SCRUB_KEYS } from '@sepia/base/config/member-keys';
import { baseUrl, duration, hostPort, pathText } from '@sepia/base/config/units';
import { isRepositoryName } from '@sepia/base/names/repository';
import { z } from 'zod';

const LOCAL_LAYER = z.strictObject({
  index: pathText().describe('Index file of the layer, made on this machine by "sepia lazy index".'),
  image: z
    .string()
    .refine(isHome, {
      message: 'is not a host and a repository, without a tag, as registry.example/team/app',
    })
    .describe('Host and repository that the layer is read from, through the agent.'),
});

function isHome(text: string): boolean {
  const [, repository] = /^[^/\s]+\/(.*)$/.exec(text) ?? [];
  return repository !== undefined && isRepositoryName(repository);
}

/** Config file of a snapshotter. */
export const SNAPSHOTTER_CONFIG = z.strictObject({
  data: pathText().describe('Data folder, relative to this file.'),
  'admin-listen': hostPort().describe('Address of /livez, /readyz, /metrics, /debug.'),
  agent: baseUrl().describe("Registry endpoint of this node's agent."),
  'node-secret-file': pathText()
    .optional()
    .describe(
      'File with the secret of this node (64 hex digits), which its agent has too, relative to this file; left out: only layers named here are shown.',
    ),
  mount: pathText().prefault('/run/sepia/lazy').describe('Where the FUSE file system is mounted.'),
  'content-cache': pathText()
    .prefault('/var/lib/sepia/layer-content')
    .describe('Folder for layer_content_caches of containerd’s erofs snapshotter.'),
  'snapshots-socket': pathText()
    .optional()
    .describe(
      'Unix socket of a snapshotter for containerd 1.6 to 2.3 (proxy_plugins); then nothing is shown in content-cache.',
    ),
  'read-deadline': duration({ least: '1s', most: '1h' })
    .prefault('60s')
    .describe('A read that gets no bytes from the agent for this long fails with EIO.'),
  readahead: z
    .number()
    .int()
    .min(0)
    .max(16_384)
    .default(1024)
    .describe('KiB that the kernel reads ahead in a layer.'),
  fill: z
    .enum(['none', 'start', 'profile', 'all', 'by-size'])
    .default('by-size')
    .transform((policy) => (policy === 'profile' ? 'all' : policy))
    .describe(
      'all: what a start reads (its recorded profile, else program, linker and libraries) at once, then what nobody read, while nobody waits; profile: the same by another name; start: only what a start reads; by-size: all for images of less than 1 GiB (their layers as they are pulled), start for others; none: only what programs read.',
    ),
  'fill-first': pathText()
    .optional()
    .describe(
      'File of paths, one a line, as "sepia lazy profile" writes it, relative to this file: unless fill is none they are fetched before everything else, in this order.',
    ),
  nydus: z
    .enum(['mount', 'leave'])
    .default('mount')
    .describe(
      'mount: Nydus images are mounted, and containerd is refused those that cannot be; leave: they are left to nydus-snapshotter on this node.',
    ),
  cache: CACHE_KEYS.describe(
    'Disk for layers: above it the least recently used go whole, except those that a snapshot of containerd names.',
  ),
  scrub: SCRUB_KEYS.describe(
    'Layers that are whole are read again, in turn, to find damage; those that this process did not read yet, or that somebody wrote to, are read at once.',
  ),
  containerd: pathText()
    .prefault('/run/containerd/containerd.sock')
    .describe(
      'Socket of containerd 2.4 or later, which is asked what its snapshots name; not needed with snapshots-socket.',
    ),
  layers: z
    .array(LOCAL_LAYER)
    .max(10_000)
    .default([])
    .describe('Layers shown from index files of this machine, all at the start.'),
  log: COMMON_KEYS.log,
});

export type SnapshotterConfig = z.infer<typeof SNAPSHOTTER_CONFIG>;

/** Keys that SIGHUP puts in force. */
export const RELOADED = ['log.level', 'cache.budget', 'cache.high', 'cache.low'] as const;
