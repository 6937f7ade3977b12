import { delay } from '@sepia/base/lifecycle';
import { metricBySource, type UpMember } from '@sepia/test-support/up';
import { MadeBlob, pushImage } from '../support/blobs.ts';
import { RoleMeter } from '../support/cpu.ts';
import { MIB, round, spread } from '../support/figures.ts';
import { blobUrl, checkBytes, REPOSITORY, readManifest } from '../support/image.ts';
import { readRanges } from '../support/load/ranged.ts';
import { startRegistry, startUp } from '../support/loopback.ts';
import { QuietRun } from '../support/machine.ts';
import { upstreamBytes } from '../support/member-metrics.ts';
import { runBench } from '../support/run.ts';

const RANGE_BYTES = 64 * 1024;
const PIECE_BYTES = MIB;

await runBench({
  id: 'n13-ranges',
  claim:
    'N13: agents read random 64 KiB ranges of a cold blob: bytes from the upstream and from the origin, each ≤ 1.2 × the union of touched pieces; the same ranges from docker-registry beside it',
  options: { size: 512, agents: 8, ranges: 16, settle: 5 },
  run: async ({ stops, dir, number, say }) => {
    const blob = new MadeBlob(number('size') * MIB);
    const registry = await startRegistry(stops, dir);
    await pushImage(registry.url, REPOSITORY, [blob]);
    const counts = [
      '--origins',
      '1',
      '--trackers',
      '1',
      '--proxies',
      '1',
      '--agents',
      String(number('agents')),
    ];
    const { cluster } = await startUp(stops, dir, [...counts, '--upstream', `bench=${registry.url}`]);
    const { agents, origins, trackers, proxies } = cluster;
    for (const agent of agents) await readManifest(agent.url);
    const asked = agents.map(() =>
      Array.from({ length: number('ranges') }, () => someOffset(blob.sizeBytes)),
    );
    const quiet = await QuietRun.begin();
    const direct = await readRanges(blobUrl(registry.url, blob.digest), asked[0]!, RANGE_BYTES);
    const role = (name: string, members: readonly UpMember[]) =>
      members.map(({ pid }) => ({ role: name, pid }));
    const use = new RoleMeter([
      ...role('agent', agents),
      ...role('origin', origins),
      ...role('tracker', trackers),
      ...role('proxy', proxies),
    ]);
    const before = await moved(origins, agents);
    const reads = await Promise.all(
      agents.map(({ url }, at) => readRanges(blobUrl(url, blob.digest), asked[at]!, RANGE_BYTES)),
    );
    // What goes on behind the answers counts as well.
    await delay(number('settle') * 1000);
    const after = await moved(origins, agents);
    const verdict = quiet.verdict('cpu');
    const byRole = use.byRole();
    const touched = new Set(asked.flat().flatMap(piecesOf)).size * PIECE_BYTES;
    const ms = reads.flat().map((one) => one.ms);
    const result = {
      touchedPieces: touched / PIECE_BYTES,
      upstreamOverTouched: round((after.upstream - before.upstream) / touched),
      originOverTouched: round((after.origin - before.origin) / touched),
      peersOverTouched: round((after.peers - before.peers) / touched),
      rangeMs: spread(ms),
      registryRangeMs: spread(direct.map((one) => one.ms)),
      byRole,
      ...verdict,
    };
    say(JSON.stringify(result));
    await checkBytes(agents[0]!.url, blob.digest);
    return result;
  },
});

/** 64 KiB aligned, as readers of files ask. */
function someOffset(sizeBytes: number): number {
  return Math.floor(Math.random() * (sizeBytes / RANGE_BYTES)) * RANGE_BYTES;
}

function piecesOf(offset: number): number[] {
  return [Math.floor(offset / PIECE_BYTES), Math.floor((offset + RANGE_BYTES - 1) / PIECE_BYTES)];
}

/** Bytes so far: from the upstream to origins, and to agents from origins and from each other. */
async function moved(
  origins: readonly UpMember[],
  agents: readonly UpMember[],
): Promise<Record<'upstream' | 'origin' | 'peers', number>> {
  let [upstream, origin, peers] = [0, 0, 0];
  for (const one of origins) upstream += await upstreamBytes(one);
  for (const { adminUrl } of agents) {
    const from = await metricBySource(adminUrl, 'sepia_agent_bytes_total');
    origin += from['origin'] ?? 0;
    peers += from['peer'] ?? 0;
  }
  return { upstream, origin, peers };
}
