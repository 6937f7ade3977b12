import { MadeBlob, pushImage } from '../support/blobs.ts';
import { RoleMeter } from '../support/cpu.ts';
import { MIB, median, round } from '../support/figures.ts';
import { blobUrl, REPOSITORY, readManifest } from '../support/image.ts';
import { SlowLink } from '../support/link.ts';
import { readRanges } from '../support/load/ranged.ts';
import { startRegistry, startUp } from '../support/loopback.ts';
import { QuietRun } from '../support/machine.ts';
import { type BenchContext, runBench } from '../support/run.ts';

const RANGE_BYTES = 64 * 1024;
const RANGES = 20;

await runBench({
  id: 'l5-ranges',
  claim:
    'L5: 20 sequential 64 KiB ranges of a cold blob behind 5 MB/s + 20 ms: p50 ≤ direct + 10 ms, maximum ≤ direct + the time of one piece (1 MiB)',
  options: { size: 200, megabytes: 5, delay: 20, rounds: 3 },
  run: async (context) => {
    const { stops, dir, number } = context;
    const blobs = Array.from({ length: number('rounds') }, () => new MadeBlob(number('size') * 1_000_000));
    const registry = await startRegistry(stops, dir);
    await pushImage(registry.url, REPOSITORY, blobs);
    const far = { megabytes: number('megabytes'), delayMs: number('delay') };
    const [toUs, direct] = [
      await SlowLink.start(registry.port, far),
      await SlowLink.start(registry.port, far),
    ];
    for (const link of [toUs, direct]) stops.push('link', () => link.stop());
    const counts = ['origins', 'trackers', 'proxies', 'agents'].flatMap((role) => [`--${role}`, '1']);
    const upstream = `bench=http://127.0.0.1:${toUs.port}`;
    const { cluster } = await startUp(stops, dir, [...counts, '--upstream', upstream]);
    const [agent, origin] = [cluster.agents[0]!, cluster.origins[0]!];
    await readManifest(agent.url);
    const rounds = [];
    for (const blob of blobs) {
      const use = new RoleMeter([
        { role: 'agent', pid: agent.pid },
        { role: 'origin', pid: origin.pid },
      ]);
      rounds.push({
        ...(await oneBlob(context, blob, { agent: agent.url, toUs, direct })),
        byRole: use.byRole(),
      });
      context.say(JSON.stringify(rounds.at(-1)));
    }
    const pieceMs = round(MIB / (far.megabytes * 1000), 0);
    return { pieceMs, rounds, valid: rounds.every(({ valid }) => valid) };
  },
});

/** The same ranges of one blob, first direct over one link, then through an agent over another. */
async function oneBlob(
  { number }: BenchContext,
  blob: MadeBlob,
  { agent, toUs, direct }: { readonly agent: string; readonly toUs: SlowLink; readonly direct: SlowLink },
): Promise<Record<'sepia' | 'direct', Record<string, number>> & { readonly valid: boolean }> {
  // Somewhere in the blob, not at the beginning of a piece.
  const first = Math.floor((Math.random() * number('size') * 500_000) / RANGE_BYTES) * RANGE_BYTES;
  const offsets = Array.from({ length: RANGES }, (_, at) => first + at * RANGE_BYTES);
  const quiet = await QuietRun.begin();
  const plain = await readRanges(
    blobUrl(`http://127.0.0.1:${direct.port}`, blob.digest),
    offsets,
    RANGE_BYTES,
  );
  const before = await toUs.received();
  const ours = await readRanges(blobUrl(agent, blob.digest), offsets, RANGE_BYTES);
  const linkMiB = round(((await toUs.received()) - before) / MIB);
  const [sepia, there] = [ours, plain].map((reads) => reads.map((one) => one.ms)) as [number[], number[]];
  return {
    sepia: { ...spread(sepia), overTheLinkMiB: linkMiB },
    direct: spread(there),
    ...quiet.verdict('link'),
  };
}

function spread(ms: readonly number[]): Record<string, number> {
  return { p50Ms: round(median(ms), 1), maxMs: round(Math.max(...ms), 1) };
}
