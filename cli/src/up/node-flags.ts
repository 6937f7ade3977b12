import { join } from 'node:path';
import { processMemoryBytes } from '@sepia/base/memory/process-memory';
import type { Role } from './plan.ts';

/**
 * V8 lets its young generation grow to 3 × 16 MiB under load; members make little garbage and hold big buffers, 4 do.
 * With 500 slow readers it let the old one grow from 40 to 157 MiB, of which 45 were in use: it is collected sooner.
 * `./sepia`, the image and its compose file give the same to roles that run alone; `test/processes/launcher.test.ts` compares.
 */
const NODE_FLAGS = ['--max-semi-space-size=4', '--heap-growing-percent=30'];
/**
 * A tracker holds no buffers but much that is small and asked for all the time: with the flags above 15,000 nodes waited for
 * its garbage collector (join p99 196–754 ms, 92 with these; a third less CPU, 460 MiB instead of 257 there).
 */
const TRACKER_FLAGS = ['--max-semi-space-size=32'];
/** Three times that is garbage under load. With less memory it runs as others do: in a cgroup of 100 MiB the system killed it. */
const TRACKER_BYTES = 512 * 1024 * 1024;

/** What Node runs a member of a role with, which may use so much memory. */
export function nodeFlags(role: Role, memoryBytes = processMemoryBytes()): readonly string[] {
  return role === 'tracker' && memoryBytes >= TRACKER_BYTES ? TRACKER_FLAGS : NODE_FLAGS;
}

/** Runs a member with sources that have no types, without Node's cache of them: 8 MiB less of each. `./sepia` and the image do the same. */
const RUN = join(import.meta.dirname, '../../../scripts/member.mjs');
/** An accelerator and a snapshotter have workers, which load sources by themselves. */
const RUN_SO: ReadonlySet<Role> = new Set<Role>(['agent', 'origin', 'proxy', 'tracker']);

/** What Node is given to run `main` of a role. */
export function nodeArguments(role: Role, main: string): readonly string[] {
  return [...nodeFlags(role), ...(RUN_SO.has(role) ? [RUN] : []), main];
}

/** What members find in their environment, where it says nothing else. */
const THREADS = 16;
/**
 * Memory of a buffer goes back to the system when it is freed. Else glibc keeps it: 500 slow readers that had gone left a
 * proxy at 243 MiB, of which 40 were in use, for ever. Costs nothing that could be measured.
 */
const MALLOC_MMAP_THRESHOLD_BYTES = 32 * 1024;

/** The environment of a member that ends with the process `supervisor`; `role`: where it is run by {@link nodeArguments}. */
export function memberEnv(env: NodeJS.ProcessEnv, supervisor: number, role?: Role): NodeJS.ProcessEnv {
  return {
    ...env,
    ...(role !== undefined && RUN_SO.has(role) ? { NODE_DISABLE_COMPILE_CACHE: '1' } : {}),
    SEPIA_SUPERVISOR: String(supervisor),
    UV_THREADPOOL_SIZE: env['UV_THREADPOOL_SIZE'] ?? String(THREADS),
    MALLOC_MMAP_THRESHOLD_: String(MALLOC_MMAP_THRESHOLD_BYTES),
  };
}
