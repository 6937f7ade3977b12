import { once } from 'node:events';
import { Pool } from 'undici';
import { MadeBlob, pushImage } from './support/blobs.ts';
import { curl } from './support/curl.ts';
import { median, percentile, round, spread } from './support/figures.ts';
import { blobUrl, REPOSITORY, readManifest } from './support/image.ts';
import { startLoopback, startRegistry } from './support/loopback.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import { runBench } from './support/run.ts';

await runBench({
  id: 'n9-small',
  claim: 'N9: 10 KiB blob, agent cold, its manifest came through it; p50 ≤ docker-registry + 1 ms, p99 ≤ + 7',
  options: { size: 10, samples: 300 },
  run: async (context) => {
    const { stops, dir } = context;
    const sizeBytes = context.number('size') * 1024;
    const blobs = Array.from({ length: context.number('samples') }, () => new MadeBlob(sizeBytes));
    const registry = await startRegistry(stops, dir);
    await pushImage(registry.url, REPOSITORY, blobs);
    const cluster = await startLoopback(stops, dir, registry);
    await readManifest(cluster.agent.url);
    for (const blob of blobs) await curl(blobUrl(cluster.proxy.url, blob.digest));
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const [ofAgent, ofRegistry] = [await timer(cluster.agent.url), await timer(registry.url)];
    stops.push('connections', async () => {
      await Promise.all([ofAgent.pool.close(), ofRegistry.pool.close()]);
    });
    const cold: number[] = [];
    const warm: number[] = [];
    const plain: number[] = [];
    for (const { digest } of blobs) {
      plain.push(await ofRegistry.time(digest, sizeBytes));
      cold.push(await ofAgent.time(digest, sizeBytes));
      warm.push(await ofAgent.time(digest, sizeBytes));
    }
    return {
      agentColdMs: spread(cold, 2),
      agentWarmMs: spread(warm, 2),
      registryMs: spread(plain, 2),
      overRegistryMs: {
        p50: round(median(cold) - median(plain), 2),
        p99: round(percentile(cold, 99) - percentile(plain, 99), 2),
      },
      samples: blobs.length,
      idleBeforePercent: quiet,
      idlePercent: meter.percent(),
    };
  },
});

/** Times whole answers in ms over one kept connection, as containerd's client does. */
async function timer(
  endpoint: string,
): Promise<{ pool: Pool; time(digest: string, sizeBytes: number): Promise<number> }> {
  const pool = new Pool(endpoint, { connections: 1 });
  const opened = await pool.request({ method: 'GET', path: '/v2/' });
  opened.body.resume();
  await once(opened.body, 'end');
  return {
    pool,
    time: async (digest, sizeBytes) => {
      const startMs = performance.now();
      const answer = await pool.request({ method: 'GET', path: new URL(blobUrl(endpoint, digest)).pathname });
      const body = await answer.body.arrayBuffer();
      const tookMs = performance.now() - startMs;
      if (answer.statusCode !== 200 || body.byteLength !== sizeBytes)
        throw new Error(`${endpoint} ${digest}: status ${answer.statusCode}, ${body.byteLength} bytes`);
      return tookMs;
    },
  };
}
