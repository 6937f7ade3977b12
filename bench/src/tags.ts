import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { RecordStore, tagKey } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { Pool } from 'undici';
import { median, percentile, round } from './support/figures.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import { runBench } from './support/run.ts';

const MANIFEST = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [] }));
const DIGEST = digestOf(MANIFEST);
const REPOSITORIES = 1_000;
const AT_ONCE = 4_096;

const repositoryOf = (index: number): string => `team/app${index % REPOSITORIES}`;
const tagOf = (index: number): string => `v${Math.floor(index / REPOSITORIES)}`;

/** Tags as pushes leave them, written by the origins' own record code while they are stopped. */
async function load(dir: string, id: string, count: number): Promise<void> {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir, id });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  const atMs = Date.now();
  for (let index = 0; index < REPOSITORIES; index++) {
    const key = ['local', repositoryOf(index), DIGEST];
    const value = { sizeBytes: MANIFEST.length, mediaType: OCI_MANIFEST };
    await records.mergeLink({ key, atMs, value });
  }
  const value = {
    v: 1,
    value: { digest: DIGEST, checkedAtMs: atMs, history: [{ digest: DIGEST, atMs, how: 'push', by: id }] },
    recent: [],
  };
  const ballot = { counter: 1, proposer: 'load.1' };
  for (let at = 0; at < count; at += AT_ONCE)
    await Promise.all(
      Array.from({ length: Math.min(AT_ONCE, count - at) }, (_, offset) => {
        const key = tagKey('local', repositoryOf(at + offset), tagOf(at + offset));
        return records.registers.handle({ type: 'accept', key, ballot, value });
      }),
    );
  await records.close();
  await folder.close();
}

await runBench({
  id: 'tags',
  claim: 'tag look-ups through a proxy with 1,000,000 tags on three origins (quorum read each)',
  options: { tags: 1_000_000, lookups: 10_000, connections: 8 },
  run: async ({ stops, dir, number, say }) => {
    const c = await Constellation.start(join(dir, 'c'), { origins: 3, trackers: 1, proxies: 1, agents: 0 });
    stops.push('cluster', async () => await c.stop());
    const put = await fetch(`${c.proxyUrls[0]}/v2/${repositoryOf(0)}/manifests/first`, {
      method: 'PUT',
      headers: { 'content-type': OCI_MANIFEST },
      body: MANIFEST,
    });
    if (put.status !== 201) throw new Error(`push: ${put.status} ${await put.text()}`);
    const loadedMs = performance.now();
    for (const id of ['origin-1', 'origin-2', 'origin-3']) {
      await c.stopMember(id);
      await load(c.dataOf(id), id, number('tags'));
      say(`${id} has ${number('tags')} tags`);
    }
    const loadSeconds = round((performance.now() - loadedMs) / 1000, 1);
    const startedMs = performance.now();
    for (const id of ['origin-1', 'origin-2', 'origin-3']) await c.startMember(id);
    const startMs = round(performance.now() - startedMs, 0);
    const pool = new Pool(c.proxyUrls[0]!, { connections: number('connections') });
    stops.push('connections', async () => await pool.close());
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const tookMs: number[] = [];
    const count = number('lookups');
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < count) {
        // A stride through all tags: look-ups seldom meet the same block of the database.
        const index = (next++ * 7_919_003) % number('tags');
        const path = `/v2/${repositoryOf(index)}/manifests/${tagOf(index)}`;
        const beganMs = performance.now();
        const answer = await pool.request({ method: 'HEAD', path });
        await answer.body.dump();
        if (answer.headers['docker-content-digest'] !== DIGEST)
          throw new Error(`${path}: ${answer.statusCode}`);
        tookMs.push(performance.now() - beganMs);
      }
    };
    const beganMs = performance.now();
    await Promise.all(Array.from({ length: number('connections') }, work));
    const seconds = (performance.now() - beganMs) / 1000;
    return {
      tags: number('tags'),
      lookupsPerSecond: round(count / seconds, 0),
      p50Ms: round(median(tookMs), 2),
      p99Ms: round(percentile(tookMs, 99), 2),
      loadSeconds,
      startMs,
      idleBeforePercent: quiet,
      idlePercent: meter.percent(),
      note: 'proxy, origins and client share one process',
    };
  },
});
