import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { resolve } from 'node:path';

export const SEPIA = resolve(import.meta.dirname, '../../../sepia');
const STOP_MS = 60_000;
/** As `sepia up` runs members (cli/src/up/member-process.ts). */
const NODE_FLAGS = ['--max-semi-space-size=4', '--heap-growing-percent=30'];
const TRACKER_FLAGS = ['--max-semi-space-size=32'];
const ENV = { UV_THREADPOOL_SIZE: '16', MALLOC_MMAP_THRESHOLD_: '32768' };

export type Role = 'agent' | 'tracker' | 'origin' | 'proxy';

export interface MemberPlace {
  readonly config: string;
  readonly log: string;
  /** Network namespace to run in. */
  readonly namespace?: string;
}

/** One member alone, with the settings that `sepia up` gives; it ends with this process. */
export function spawnMember(role: Role, place: MemberPlace): ChildProcess {
  const args = [...(role === 'tracker' ? TRACKER_FLAGS : NODE_FLAGS), SEPIA, role, '--config', place.config];
  const inside = [`--net=/run/netns/${place.namespace}`, '--', process.execPath, ...args];
  const log = openSync(place.log, 'a');
  try {
    return spawn(
      place.namespace === undefined ? process.execPath : 'nsenter',
      place.namespace === undefined ? args : inside,
      {
        stdio: ['ignore', log, log],
        env: { ...process.env, SEPIA_SUPERVISOR: String(process.pid), ...ENV },
      },
    );
  } finally {
    closeSync(log);
  }
}

/** Ends a member and waits until it is gone; one that does not end in time is killed. */
export async function endMember(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((settle) => child.once('exit', () => settle()));
  child.kill(signal);
  const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await gone;
  clearTimeout(late);
}
