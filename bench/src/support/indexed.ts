import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StopStack } from '@sepia/base/lifecycle';
import { must } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import type { Up } from '@sepia/test-support/up';
import { startUp } from './loopback.ts';
import { SEPIA } from './member.ts';

const INDEXED_MS = 600_000;

/** A cluster with an accelerator, and the snapshotter of its one node. */
export interface IndexedCluster {
  readonly up: Up;
  /** Folder for `layer_content_caches`. */
  readonly content: string;
}

/** `sepia up --lazy`: one member of each role, and the snapshotter of its one node. Ends with `stops`. */
export async function startLazyUp(stops: StopStack, dir: string, upstream: string): Promise<IndexedCluster> {
  const counts = ['origins', 'trackers', 'proxies', 'agents'].flatMap((role) => [`--${role}`, '1']);
  const up = await startUp(stops, dir, [...counts, '--lazy', '--upstream', upstream]);
  stops.push('holder', async () => {
    const holder = readFileSync(join(up.dir, 'members/snapshotter-1/data/holder.pid'), 'utf8');
    await up.stop();
    process.kill(Number(holder), 'SIGTERM');
    const isMounted = (): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(up.dir);
    await until(() => !isMounted(), 'the mount is gone', 60_000);
  });
  return { up, content: join(up.dir, 'members/snapshotter-1/content') };
}

/**
 * `sepia up --lazy` that has indexed an image, as its users have it; then what was read for that is purged from every
 * cache, so that its layers are as cold as those of an image that nobody pulled. Ends with `stops`.
 */
export async function startIndexed(
  stops: StopStack,
  dir: string,
  image: { readonly reference: string; readonly layers: readonly string[]; readonly upstream: string },
): Promise<IndexedCluster> {
  const started = await startLazyUp(stops, dir, image.upstream);
  const cluster = ['--cluster', join(started.up.dir, 'cluster.json')];
  await must(SEPIA, ['lazy', 'index', image.reference, ...cluster]);
  const isIndexed = async (): Promise<boolean> => {
    const { stdout } = await must(SEPIA, ['lazy', 'show', image.reference, ...cluster]);
    return stdout
      .trim()
      .split('\n')
      .every((line) => line.includes('  lazy: index '));
  };
  await until(isIndexed, 'every layer has its index', INDEXED_MS);
  const repository = image.reference.slice(0, image.reference.lastIndexOf(':'));
  for (const layer of image.layers) await must(SEPIA, ['purge', `${repository}@${layer}`, ...cluster]);
  return started;
}
