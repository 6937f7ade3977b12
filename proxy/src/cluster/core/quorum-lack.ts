import { majority } from '@sepia/cluster/ring';
import type { OriginHealth } from './origin-health.ts';

/**
 * Undefined while a majority of the origins answers, else why a proxy is not ready: how many answer and who is silent.
 */
export function quorumLack(ids: readonly string[], health: OriginHealth, nowMs: number): string | undefined {
  const silent = health.silent(ids, nowMs);
  const answering = ids.length - silent.length;
  const needed = majority(ids.length);
  if (answering >= needed) return undefined;
  const who = silent.length === 0 ? '' : `; silent: ${silent.join(', ')}`;
  return `${answering} of ${ids.length} origins answer; ${needed} are needed${who}`;
}
