import { join } from 'node:path';
import { PostgresServer } from '@sepia/test-support/postgres';
import { median, percentile, round } from './support/figures.ts';
import { startUp } from './support/loopback.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import { inRounds, makeImage, Side } from './support/push-side.ts';
import { runBench } from './support/run.ts';

const SHAPE = ['--origins', '3', '--trackers', '1', '--proxies', '1', '--agents', '0'];

interface Engine {
  readonly side: Side;
  readonly writeMs: number[];
  readonly readMs: number[];
}

function figures({ side, writeMs, readMs }: Engine): Record<string, number> {
  const { imagesPerSecond, p50Ms, p99Ms, cpuMsPerImage } = side.figures();
  return {
    tagWriteP50Ms: round(median(writeMs), 1),
    tagWriteP99Ms: round(percentile(writeMs, 99), 1),
    tagReadP50Ms: round(median(readMs), 1),
    tagReadP99Ms: round(percentile(readMs, 99), 1),
    pushesPerSecond: imagesPerSecond!,
    pushP50Ms: p50Ms!,
    pushP99Ms: p99Ms!,
    cpuMsPerPush: cpuMsPerImage!,
  };
}

await runBench({
  id: 'records',
  claim: 'tag writes, tag reads and small pushes with records on PostgreSQL, beside those on the origins',
  options: { images: 400, 'at-once': 4, size: 10 },
  run: async ({ stops, dir, number, say }) => {
    const atOnce = number('at-once');
    const images = Array.from({ length: number('images') }, (_, at) => makeImage(at, number('size') * 1024));
    const database = await PostgresServer.start();
    stops.push('database', async () => await database.remove());
    const start = async (name: string, args: readonly string[]): Promise<Engine> => {
      const { proxies, origins, trackers } = (await startUp(stops, join(dir, name), [...SHAPE, ...args]))
        .cluster;
      const pids = [...proxies, ...origins, ...trackers].map(({ pid }) => pid);
      const side = new Side(proxies[0]!.url, pids, atOnce);
      stops.push(`connections of ${name}`, async () => await side.close());
      return { side, writeMs: [], readMs: [] };
    };
    const engines = {
      embedded: await start('embedded', []),
      postgres: await start('postgres', ['--records', database.url]),
    };
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    await inRounds(images, say, async (part) => {
      for (const { side } of Object.values(engines)) await side.pushAll(part);
      for (const { side, writeMs } of Object.values(engines)) writeMs.push(...(await side.tagAll(part)));
      for (const { side, readMs } of Object.values(engines)) readMs.push(...(await side.lookAll(part)));
    });
    const [embedded, postgres] = [figures(engines.embedded), figures(engines.postgres)];
    return {
      images: images.length,
      atOnce,
      embedded,
      postgres,
      tagWriteRatio: round(postgres['tagWriteP50Ms']! / embedded['tagWriteP50Ms']!, 2),
      tagReadRatio: round(postgres['tagReadP50Ms']! / embedded['tagReadP50Ms']!, 2),
      pushRatio: round(postgres['pushP50Ms']! / embedded['pushP50Ms']!, 2),
      idleBeforePercent: quiet,
      idlePercent: meter.percent(),
      note: 'client, both clusters and the database share the machine and its disk; CPU without that of the database',
    };
  },
});
