import { startRegistry, startUp } from './support/loopback.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import { inRounds, makeImage, Side } from './support/push-side.ts';
import { runBench } from './support/run.ts';

await runBench({
  id: 'small-pushes',
  claim:
    'many small images pushed through a proxy of three origins (acknowledged when two have it), beside docker-registry',
  options: { images: 1_000, 'at-once': 8, size: 10 },
  run: async ({ stops, dir, number, say }) => {
    const atOnce = number('at-once');
    const images = Array.from({ length: number('images') }, (_, at) => makeImage(at, number('size') * 1024));
    const registry = await startRegistry(stops, dir);
    const counts = ['--origins', '3', '--trackers', '1', '--proxies', '1', '--agents', '0'];
    const { proxies, origins, trackers } = (await startUp(stops, dir, counts)).cluster;
    const pids = [...proxies, ...origins, ...trackers].map(({ pid }) => pid);
    const sepia = new Side(proxies[0]!.url, pids, atOnce);
    const plain = new Side(registry.url, [registry.pid], atOnce);
    stops.push('connections', async () => {
      await Promise.all([sepia.close(), plain.close()]);
    });
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    await inRounds(images, say, async (part) => {
      await plain.pushAll(part);
      await sepia.pushAll(part);
    });
    return {
      images: images.length,
      atOnce,
      sepia: sepia.figures(),
      registry: plain.figures(),
      idleBeforePercent: quiet,
      idlePercent: meter.percent(),
      note: 'client, registry and all members share the machine and its disk; docker-registry keeps one copy, Sepia three',
    };
  },
});
