import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { forgetAtRest } from './at-rest.ts';
import { IdleMemory } from './core/idle-memory.ts';

/** How often a process is looked at, in ms: what a burst left is given back within two looks. */
const LOOK_MS = 15_000;

/**
 * Collects what the start, and each burst, left behind once this process is idle, so that its memory goes back to the
 * system within a minute. Keeps no process alive. Returns what ends it.
 */
export function giveMemoryBack(lookMs: number = LOOK_MS): () => void {
  const collect = collector();
  const memory = new IdleMemory();
  let last = spent();
  const timer = setInterval(() => {
    const now = spent();
    const spentUs = now.cpu.user + now.cpu.system - last.cpu.user - last.cpu.system;
    const cpuShare = spentUs / 1_000 / Math.max(1, now.atMs - last.atMs);
    last = now;
    const how = memory.look({ usedBytes: usedBytes(), cpuShare });
    if (how === undefined) return;
    if (how === 'thorough') {
      forgetAtRest();
      collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    } else collect();
    memory.collected(usedBytes());
    // What a collection costs is no burst, on whatever machine.
    last = spent();
  }, lookMs);
  timer.unref();
  return () => clearInterval(timer);
}

function spent(): { readonly atMs: number; readonly cpu: NodeJS.CpuUsage } {
  return { atMs: performance.now(), cpu: process.cpuUsage() };
}

/** By V8, which opens no file for it: `process.memoryUsage()` throws where there is no descriptor left. */
function usedBytes(): number {
  const { used_heap_size: heapBytes, external_memory: externalBytes } = getHeapStatistics();
  return heapBytes + externalBytes;
}

/** V8's own collection, which Node shows to scripts only where it was started with a flag. */
function collector(): NodeJS.GCFunction {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as NodeJS.GCFunction;
}
