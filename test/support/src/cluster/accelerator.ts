import { join } from 'node:path';
import { ACCELERATOR_CONFIG, type Accelerator, createAccelerator } from '@sepia/accelerator';
import { silentLogger } from '@sepia/base/log';
import type { Constellation } from './constellation.ts';

/** Starts an accelerator of a cluster, with its data below `dir` and further keys of its config. Whoever calls stops it. */
export async function startAccelerator(
  cluster: Constellation,
  dir: string,
  id: string,
  keys: object = {},
): Promise<Accelerator> {
  const config = ACCELERATOR_CONFIG.parse({
    id,
    data: join(dir, id),
    'cluster-key-file': cluster.keyFile,
    'cluster-document': cluster.documentFile,
    'admin-listen': '127.0.0.1:0',
    listen: '127.0.0.1:0',
    scan: '1h',
    threads: 1,
    ...keys,
  });
  return await createAccelerator(config, { log: silentLogger() });
}
