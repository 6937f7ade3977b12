import { type ChildProcess, fork } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { join } from 'node:path';
import { readElsewhere, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { request } from 'undici';
import { MadeBlob, pushImage } from '../support/blobs.ts';
import { curl } from '../support/curl.ts';
import { GIB, MIB, round } from '../support/figures.ts';
import { blobUrl, REPOSITORY, readManifest } from '../support/image.ts';
import type { CrowdOrder, CrowdTargets } from '../support/load/crowd.ts';
import { type LoopbackCluster, startLoopback, startRegistry } from '../support/loopback.ts';
import { cpuSeconds, IdleMeter, peakRssMiB } from '../support/machine.ts';
import { type BenchContext, runBench } from '../support/run.ts';

const BLOBS = 3;
/** Copies on disk: registry, its upload, origin, agent. */
const DISK_COPIES = 4;
const READY_MS = 600_000;

await runBench({
  id: 'n10-memory',
  claim:
    'N10: peak memory (VmHWM) of agent and origin; 10 GiB, 3 blobs at once, 50 wires, a slow reader; ≤ 200 MiB',
  options: { size: 10, members: 16, slow: 1 },
  run: async (context) => {
    const { stops, dir } = context;
    const sizeBytes = Math.floor((context.number('size') * GIB) / BLOBS / MIB) * MIB;
    const disk = statfsSync(dir);
    const needed = DISK_COPIES * BLOBS * sizeBytes;
    if (disk.bavail * disk.bsize < needed)
      throw new Error(
        `${dir} has ${round((disk.bavail * disk.bsize) / GIB, 1)} GiB free, ${round(needed / GIB, 1)} needed`,
      );
    const blobs = Array.from({ length: BLOBS }, () => new MadeBlob(sizeBytes));
    const registry = await startRegistry(stops, dir);
    await pushImage(registry.url, REPOSITORY, blobs);
    const cluster = await startLoopback(stops, dir, registry);
    const crowd = await startCrowd(context, cluster, blobs);
    context.say('crowd is ready');
    await readManifest(cluster.agent.url);
    return await measure(context, cluster, crowd, blobs);
  },
});

async function measure(
  context: BenchContext,
  cluster: LoopbackCluster,
  crowd: ChildProcess,
  blobs: readonly MadeBlob[],
): Promise<Record<string, unknown>> {
  const { agent, origin } = cluster;
  const pids = {
    agent: agent.pid,
    origin: origin.pid,
    tracker: cluster.tracker.pid,
    proxy: cluster.proxy.pid,
  };
  const startMiB = peaks(pids);
  const cpuBefore = [agent.pid, origin.pid].map(cpuSeconds);
  const meter = new IdleMeter();
  const slow = readSlowly(blobUrl(agent.url, blobs[0]!.digest), context.number('slow') * MIB);
  context.stops.push('slow reader', async () => {
    await slow.stop();
  });
  const pulls = blobs.map((blob) => curl(blobUrl(agent.url, blob.digest), { maxSeconds: 3600 }));
  send(crowd, {
    targets: [
      { id: agent.name, address: agent.peers[0]!, origin: false },
      { id: origin.name, address: origin.peers[0]!, origin: true },
    ],
  });
  const counts = watchWires(crowd);
  const transfers = await Promise.all(pulls);
  const seen = await counts.stop();
  const slowBytes = await slow.stop();
  const total = blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0);
  const [agentCpu, originCpu] = [agent.pid, origin.pid].map(
    (pid, index) => cpuSeconds(pid) - cpuBefore[index]!,
  );
  return {
    peakMiB: peaks(pids),
    startMiB,
    seconds: round(Math.max(...transfers.map((one) => one.seconds)), 1),
    gib: round(total / GIB),
    crowdWiresToBoth: seen.wires,
    crowdUploadedGib: round(seen.uploadedBytes / GIB),
    slowReaderMiB: Math.round(slowBytes / MIB),
    cpuSecPerGib: { agent: round((agentCpu! * GIB) / total), origin: round((originCpu! * GIB) / total) },
    idlePercent: meter.percent(),
  };
}

/** A client that takes a body at `bytesPerSec` until it is stopped; answers how much it got. */
function readSlowly(url: string, bytesPerSec: number): { stop(): Promise<number> } {
  const gone = new AbortController();
  const reading = (async () => {
    let bytes = 0;
    try {
      const { body } = await request(url, { signal: gone.signal, bodyTimeout: 0 });
      for await (const chunk of body) {
        bytes += (chunk as Uint8Array).length;
        await delay(((chunk as Uint8Array).length * 1000) / bytesPerSec, gone.signal);
      }
    } catch (error) {
      throwIfBug(error);
      if (!gone.signal.aborted) throw error;
    }
    return bytes;
  })();
  readElsewhere(reading);
  return {
    stop: async () => {
      gone.abort();
      return await reading;
    },
  };
}

function peaks(pids: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, peakRssMiB(pid)]));
}

interface CrowdCount {
  readonly wires: number;
  readonly uploadedBytes: number;
}

/** Asks the crowd every second; keeps the most wires seen. */
function watchWires(crowd: ChildProcess): { stop(): Promise<CrowdCount> } {
  let most: CrowdCount = { wires: 0, uploadedBytes: 0 };
  crowd.on('message', (message: CrowdCount | 'ready') => {
    if (message === 'ready') return;
    most = { wires: Math.max(most.wires, message.wires), uploadedBytes: message.uploadedBytes };
  });
  const timer = setInterval(() => crowd.send('count'), 1_000);
  return {
    stop: async () => {
      clearInterval(timer);
      await delay(200);
      return most;
    },
  };
}

async function startCrowd(
  context: BenchContext,
  cluster: LoopbackCluster,
  blobs: readonly MadeBlob[],
): Promise<ChildProcess> {
  const child = fork(join(import.meta.dirname, '../support/load/crowd.ts'));
  const gone = new Promise<void>((settle) => child.once('exit', () => settle()));
  context.stops.push('crowd', async () => {
    child.kill();
    await gone;
  });
  const ready = new Promise<void>((settle, reject) => {
    child.once('message', () => settle());
    child.once('exit', (code) => reject(new Error(`crowd ended with ${code}`)));
    setTimeout(() => reject(new Error('crowd is not ready')), READY_MS).unref();
  });
  send(child, {
    keyFile: cluster.keyFile,
    members: context.number('members'),
    blobs: blobs.map((blob) => ({
      digest: blob.digest,
      sizeBytes: blob.sizeBytes,
      base: Buffer.from(blob.base).toString('base64'),
    })),
  });
  await ready;
  return child;
}

function send(child: ChildProcess, message: CrowdOrder | CrowdTargets): void {
  child.send(message);
}
