import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { resolve } from 'node:path';
import { memberEnv, nodeFlags } from '../../../cli/src/up/node-flags.ts';

export const SEPIA = resolve(import.meta.dirname, '../../../sepia');
const STOP_MS = 60_000;

export type Role = 'agent' | 'tracker' | 'origin' | 'proxy';

export interface MemberPlace {
  readonly config: string;
  readonly log: string;
  /** Network namespace to run in. */
  readonly namespace?: string;
}

/** One member alone, with the settings that `sepia up` gives; it ends with this process. */
export function spawnMember(role: Role, place: MemberPlace): ChildProcess {
  const args = [...nodeFlags(role), SEPIA, role, '--config', place.config];
  const inside = [`--net=/run/netns/${place.namespace}`, '--', process.execPath, ...args];
  const log = openSync(place.log, 'a');
  try {
    return spawn(
      place.namespace === undefined ? process.execPath : 'nsenter',
      place.namespace === undefined ? args : inside,
      {
        stdio: ['ignore', log, log],
        env: memberEnv(process.env, process.pid),
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
